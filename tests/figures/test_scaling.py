"""The arithmetic and the simulation of `python -m tests.figures.scaling`: invariants, and the page with its results."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from xlsr_live.client.remote.liveness import SILENT_S
from xlsr_live.client.remote.stream import FIRST_PAUSE_S, LONGEST_PAUSE_S, SEARCH_S
from xlsr_live.server.net.connections import PING_S
from xlsr_live.server.refusals import _RETRY_AFTER_S
from xlsr_live.streaming.frames import ms
from xlsr_live.streaming.protocol.codes import Code
from xlsr_live.streaming.session.safe_sample import SETTLING

from tests.figures import scaling, scaling_simulation
from tests.figures.scaling_plan import Costs, MachineType, scale_plan
from tests.figures.scaling_simulation import Failure, ScaleResult, ScaleSimulation
from tests.support.paths import ROOT

COSTS = Costs()
SMALL = MachineType(processes=2)


def simulate(
    streams: int,
    machines: int,
    failure: Failure = Failure.MACHINE,
    *,
    costs: Costs = COSTS,
    machine: MachineType = SMALL,
    seed: int = 1,
    victim: int = 0,
    seconds: float = 200.0,
) -> ScaleResult:
    return ScaleSimulation(streams, machines, failure, costs, machine, seed, victim).run(seconds)


@pytest.mark.parametrize("failure", Failure)
@pytest.mark.parametrize(("streams", "machines"), [(500, 3), (800, 3), (1_150, 3), (2_000, 3), (700, 2)])
@pytest.mark.parametrize("seconds", [60.0, 90.0, 200.0])
def test_every_session_is_served_moved_or_refused(failure: Failure, streams: int, machines: int, seconds: float):
    found = simulate(streams, machines, failure, seconds=seconds)
    assert found.came == found.placed + found.began + found.turned_away + found.trying
    assert found.placed + found.began == found.ended + found.open + found.gave_up + found.seeking
    assert found.failed == found.moved + found.gave_up + found.waiting
    assert 0 <= found.seeking <= found.waiting
    assert len(found.times) == found.moved
    assert found.unserved[-1][1] == found.waiting


@pytest.mark.parametrize("failure", Failure)
@pytest.mark.parametrize("victim", range(4))
def test_a_failure_takes_no_more_than_the_sessions_of_its_machine(failure: Failure, victim: int):
    found = simulate(1_000, 4, failure, seed=victim, victim=victim)
    assert found.moved == found.failed  # and they are served again, whichever machine it is
    lost = SMALL.slots(COSTS) if failure is Failure.PROCESS else SMALL.sessions(COSTS)
    assert 0 < found.failed <= lost
    assert found.fullest <= SMALL.slots(COSTS)  # admission holds, whatever happens


@pytest.mark.parametrize("failure", Failure)
def test_one_seed_gives_one_result(failure: Failure):
    first, again, other = (simulate(700, 3, failure, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first.times != other.times


def test_more_machines_serve_all_earlier_and_lose_fewer():
    found = [simulate(1_000, machines) for machines in (3, 4, 5, 6)]
    assert found[0].gave_up > 0  # they do not fit
    for fewer, more in pairwise(found):
        assert more.failed < fewer.failed
        assert more.gave_up <= fewer.gave_up
        assert more.turned_away <= fewer.turned_away
    times = [one.all_served for one in found[1:]]
    assert all(earlier is not None and later is not None and later <= earlier for earlier, later in pairwise(times))


@pytest.mark.parametrize(
    "change", [{"process_streams": 210}, {"replay_s": 24.0}, {"lost_removed_s": 50.0}, {"gflop": 125.0}]
)
def test_more_work_or_a_later_notice_delays_the_last_session(change: dict[str, float]):
    machine, before = MachineType(processes=4), replace(COSTS, gflop=110.0, tflops=250.0)
    costs = [before, replace(before, **change)]
    assert costs[0].gpu_streams >= costs[1].gpu_streams
    least = min(machine.slots(each) for each in costs)
    less, more = (simulate(3 * 4 * least // 2, 3, costs=each, machine=machine) for each in costs)
    assert less.all_served < more.all_served


def test_nobody_is_served_again_before_the_balancer_knows():
    for failure, notice in ((Failure.PROCESS, COSTS.removed_s), (Failure.MACHINE, COSTS.lost_removed_s)):
        found = simulate(800, 4, failure)
        assert min(found.times) >= notice
        counts = [count for _, count in found.unserved]
        assert counts == sorted(counts, reverse=True)  # nobody fails later
        assert (counts[0], counts[-1]) == (found.failed, 0)


def test_needs_grow_with_streams_and_costs():
    machine = MachineType()
    plans = [scale_plan(streams, COSTS, machine) for streams in (1, 240, 241, 1_000, 10_000)]
    assert [plan.processes for plan in plans] == [1, 1, 2, 5, 42]
    for fewer, more in pairwise(plans):
        for name in vars(fewer):
            assert getattr(fewer, name) <= getattr(more, name)
    slower = scale_plan(10_000, replace(COSTS, front_ms=8.6, utilisation=0.125), machine)
    assert slower.front_cores == 2 * plans[-1].front_cores == pytest.approx(86)
    assert slower.gpus_busy == pytest.approx(2 * plans[-1].gpus_busy)
    assert slower.machines > plans[-1].machines


def test_the_constants_are_those_of_the_project():
    assert ms(round(1000 * COSTS.replay_s)) == SETTLING
    assert (COSTS.silent_s, COSTS.give_up_s) == (SILENT_S, SEARCH_S)
    assert COSTS.retry_after_s == _RETRY_AFTER_S[Code.SERVER_FULL]
    simulated = scaling_simulation.FIRST_PAUSE_S, scaling_simulation.LONGEST_PAUSE_S, scaling_simulation.PING_S
    assert simulated == (FIRST_PAUSE_S, LONGEST_PAUSE_S, PING_S)
    packet = 3_200 + 8  # 100 ms of samples, and the header of a websocket message from a client
    segments = -(-packet // 1_448)
    assert 10 * (packet + segments * (20 + 20 + 12)) == COSTS.up_bytes


def test_the_page_has_the_results_of_the_command(tmp_path: Path):
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra bench, is not installed")
    page, machine = (ROOT / "docs" / "scaling.md").read_text(), MachineType()
    outcomes = scaling.simulate(scaling.STREAMS, COSTS, machine, 1)
    for table in (
        scaling.inputs(COSTS),
        scaling.needs([1_000, scaling.STREAMS], COSTS, machine),
        scaling.failures(outcomes, scaling.STREAMS, COSTS, machine),
    ):
        for line in table.markdown().splitlines()[2:]:
            assert line in page.splitlines()
    early = ScaleSimulation(scaling.STREAMS, 5, Failure.MACHINE, scaling.QUICK, machine).run()
    assert (
        f"within {scaling.QUICK.lost_removed_s:g} s, five machines serve\n  everyone after {early.all_served:.0f} s"
        in page
    )
    assert f"{COSTS.gpu_streams:,.0f} streams with 60 % speech" in page
    assert f"{machine.slots(COSTS)} sessions" in page
    scaling.plot(tmp_path / "scaling.png", outcomes, scaling.STREAMS)
    assert (tmp_path / "scaling.png").read_bytes()[:4] == b"\x89PNG"
