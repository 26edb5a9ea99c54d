"""`xlsr-live bench capacity`: the most live streams within a latency bound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..console import needs
from ..options.model import recognizer_options
from ..options.server import check_place, token_option
from ..options.session import session_options
from .options import data_options, load_options

EPILOG = """\b
Examples:
  xlsr-live bench capacity
  xlsr-live bench capacity recordings/ --model my/xlsr --bound 1.5 --out results/
  xlsr-live bench capacity --url ws://127.0.0.1:8765/v1/stream
\b
docs/benchmarks.md explains every figure.
"""


@click.command(epilog=EPILOG, short_help="The most live streams within a latency bound.")
@click.option(
    "--bound",
    type=click.FloatRange(min=0.05),
    default=1.2,
    show_default=True,
    metavar="SECONDS",
    help="Upper bound of the p95.",
)
@click.option(
    "--moment",
    type=click.Choice(["shown", "right", "committed", "final"]),
    default="shown",
    show_default=True,
    help="Moment of a word to which the bound applies.",
)
@click.option(
    "--start", type=click.IntRange(min=1), default=4, show_default=True, metavar="N", help="Streams of the first trial."
)
@click.option(
    "--most", type=click.IntRange(min=1), default=4_096, show_default=True, metavar="N", help="Most streams to try."
)
@data_options
@load_options
@recognizer_options()
@token_option
@session_options
def capacity(bound: float, moment: str, start: int, most: int, **options: Any) -> None:
    """Find the most live streams whose 95th percentile of per-word latency stays under a bound.

    The number of streams doubles until a trial exceeds the bound; bisection then narrows it to about 6 %. The report
    has the latencies and CPU use of every trial. The streams are those of `bench latency`.
    """
    check_place(options["url"])
    with needs("bench", "this benchmark"):
        from . import load_tables, load_test, plots, tables
        from .streams import TrialPlan

    out: Path | None = options["out"]
    outcomes: dict[int, load_test.Outcome] = {}
    with load_test.open_load_test(options) as test:

        def holds(streams: int) -> bool:
            plan = TrialPlan(streams, options["seconds"], options["warm_up"], options["packet_ms"])
            outcome = outcomes[streams] = test.run(plan)
            held = outcome.within(bound, moment)
            click.echo(f"{streams} streams: {outcome.trial.problem or ('held' if held else 'too late')}", err=True)
            return held

        best = search(holds, start=start, most=most)
        curve = [outcomes[streams] for streams in sorted(outcomes)]
        shown = [load_tables.curve(curve, bound, moment)]
        tables.show(shown)
        at_most = " (the limit of --most)" if best == most else ""
        click.echo(f"{best} live streams with p95 of words {moment} under {bound:g} s{at_most}")
        if out:
            report = tables.provenance("capacity") | test.settings
            report |= {"bound_s": bound, "moment": moment, "streams": best}
            report |= {"trials": [outcome.report() for outcome in curve]}
            finished = [outcome for outcome in curve if outcome.latencies.committed]
            numbers = [outcome.trial.plan.streams for outcome in finished]
            lines = {
                f"{name} {percentile}": [outcome.latencies.report()[name][percentile] for outcome in finished]
                for name, percentile in (("shown", "p95"), ("committed", "p50"), ("committed", "p95"))
            }
            title = plots.titled(test.name, test.settings["recordings"], "recordings")
            written = tables.write(out, "capacity", shown, report)
            for path in (*written, plots.curve(out / "capacity.png", numbers, lines, bound, title)):
                click.echo(f"written: {path}")


def search(holds: Callable[[int], bool], *, start: int, most: int) -> int:
    """The largest number up to `most` that holds, within 1/16; 0 if none does. `holds` must be monotonic."""
    low, high, number = 0, most + 1, min(start, most)
    while high - low > max(1, low // 16):
        if holds(number):
            low = number
        else:
            high = number
        number = min(2 * low, most) if high > most else (low + high) // 2
    return low
