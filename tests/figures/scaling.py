"""The figures of docs/scaling.md: `python -m tests.figures.scaling --out docs/images`.

Arithmetic from streams to processes, cores, GPUs and network, and a simulated failure for several numbers of machines.
It takes seconds and measures nothing: the costs are those in `tests/figures/scaling_plan.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

from xlsr_live.client.bench.tables import Table

from tests.figures.scaling_plan import SOURCES, Costs, MachineType, scale_plan
from tests.figures.scaling_simulation import Failure, ScaleResult, ScaleSimulation

STREAMS: Final = 10_000
MORE: Final = 5  # numbers of machines, from the least on
QUICK: Final = replace(Costs(), lost_removed_s=12.0)  # a balancer with health checks of its own

Outcomes = Mapping[tuple[Failure, int], ScaleResult]


def simulate(streams: int, costs: Costs, machine: MachineType, seed: int) -> dict[tuple[Failure, int], ScaleResult]:
    """Each failure with the least number of machines, and with up to four more."""
    least = max(2, scale_plan(streams, costs, machine).machines)
    return {
        (failure, machines): ScaleSimulation(streams, machines, failure, costs, machine, seed).run()
        for failure in Failure
        for machines in range(least, least + MORE)
    }


def inputs(costs: Costs) -> Table:
    rows = [
        [SOURCES[each.name][0], f"{getattr(costs, each.name):,g}", *SOURCES[each.name][1:]] for each in fields(costs)
    ]
    return Table("Costs", ["figure", "value", "", "source"], rows)


def needs(streams: Sequence[int], costs: Costs, machine: MachineType) -> Table:
    plans = [scale_plan(each, costs, machine) for each in streams]
    lines = {
        "front processes": [f"{plan.processes:,}" for plan in plans],
        "front cores": [f"{plan.front_cores:,.0f}" for plan in plans],
        "cores more with Ray Serve: HAProxy, its own proxy": [
            f"{plan.haproxy_cores:,.0f}, {plan.python_proxy_cores:,.0f}" for plan in plans
        ],
        "GPUs for XLS-R 300M, if always busy (assumed)": [f"{plan.gpus_busy:,.1f}" for plan in plans],
        f"machines of one GPU and {machine.cores} cores, none to spare": [f"{plan.machines:,}" for plan in plans],
        "or without GPUs: cores for the packaged model": [f"{plan.packaged_cores:,.0f}" for plan in plans],
        "or without GPUs: cores for XLS-R 300M in int8": [f"{plan.int8_cores:,.0f}" for plan in plans],
        "network in, out (Gbit/s)": [f"{plan.gbit_in:.2f}, {plan.gbit_out:.2f}" for plan in plans],
    }
    return Table(
        "Needs", ["streams", *(f"{each:,}" for each in streams)], [[name, *row] for name, row in lines.items()]
    )


def failures(outcomes: Outcomes, streams: int, costs: Costs, machine: MachineType) -> Table:
    columns = ["failure", "machines", "share of places taken, before, after", "sessions moved", "gave up"]
    columns += ["new ones turned away", "served again: p50, last (s)", "network in for it, at most (Gbit/s)"]
    rows: list[list[str]] = []
    for (failure, machines), found in outcomes.items():
        lost = machine.slots(costs) if failure is Failure.PROCESS else machine.sessions(costs)
        places = machines * machine.sessions(costs)
        middle = f"{found.times[len(found.times) // 2]:.0f}, " if found.times else ""
        last = "never" if found.all_served is None else f"{found.all_served:.0f}"
        row = [failure.value, str(machines), f"{streams / places:.0%}, {streams / (places - lost):.0%}"]
        row += [f"{found.moved:,} of {found.failed:,}", f"{found.gave_up:,}", f"{found.turned_away:,}"]
        rows.append([*row, f"{middle}{last}", f"{found.gbit:.1f}"])
    return Table(f"One failure under {streams:,} streams", columns, rows)


def plot(path: Path, outcomes: Outcomes, streams: int) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    over_time, by_machines = figure.subplots(1, 2)
    for (failure, machines), found in outcomes.items():
        if failure is Failure.MACHINE:
            times, counts = zip(*found.unserved, strict=True)
            over_time.plot(times, counts, label=f"{machines} machines")
    over_time.set(xlim=(0, 150), xlabel=f"seconds after {Failure.MACHINE.value}", ylabel="sessions without service")
    over_time.legend()
    for failure, marker in zip(Failure, "os", strict=True):
        found = [(machines, one.all_served) for (kind, machines), one in outcomes.items() if kind is failure]
        served = [(machines, seconds) for machines, seconds in found if seconds is not None]
        by_machines.plot(*zip(*served, strict=True), marker=marker, label=failure.value)
    by_machines.set(xlabel="machines", ylabel="seconds until all are served again", ylim=(0, None))
    by_machines.xaxis.get_major_locator().set_params(integer=True)
    by_machines.legend()
    for axes in (over_time, by_machines):
        axes.grid(alpha=0.3)
    figure.suptitle(f"{streams:,} streams, one failure; simulated, GPU figures assumed")
    figure.savefig(path, dpi=100, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for the plot scaling.png")
    options = parser.parse_args()
    costs, machine = Costs(), MachineType()
    outcomes = simulate(options.streams, costs, machine, options.seed)
    shown = [inputs(costs), needs([1_000, options.streams], costs, machine)]
    shown.append(failures(outcomes, options.streams, costs, machine))
    print("\n".join(table.markdown() for table in shown))
    least = min(machines for _, machines in outcomes)
    early = ScaleSimulation(options.streams, least + 1, Failure.MACHINE, QUICK, machine, options.seed).run()
    print(
        f"a balancer that knows within {QUICK.lost_removed_s:g} s, {least + 1} machines: {early.all_served or 0:.0f} s"
    )
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        plot(options.out / "scaling.png", outcomes, options.streams)
        print(f"written: {options.out / 'scaling.png'}")


if __name__ == "__main__":
    main()
