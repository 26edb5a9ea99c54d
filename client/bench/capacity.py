"""`xlsr-live bench capacity`: how many live streams can be carried at a bound on latency."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..console import needs
from ..options.model import device_option, lm_option, model_options
from ..options.server import check_place, token_option
from ..options.session import session_options
from .options import data_options, load_options

EPILOG = """\b
Examples:
  xlsr-live bench capacity
  xlsr-live bench capacity recordings/ --model my/xlsr --bound 1.5 --out results/
  xlsr-live bench capacity --url ws://127.0.0.1:8765/v1/stream
\b
Every figure is explained in docs/benchmarks.md.
"""


@click.command(epilog=EPILOG, short_help="The most live streams at a bound on latency.")
@click.option(
    "--bound", type=click.FloatRange(min=0.05), default=1.2, show_default=True, metavar="SECONDS", help="On the p95."
)
@click.option(
    "--moment",
    type=click.Choice(["shown", "right", "committed", "final"]),
    default="shown",
    show_default=True,
    help="Which moment of a word the bound is for.",
)
@click.option("--start", type=click.IntRange(min=1), default=4, show_default=True, metavar="N", help="First trial.")
@click.option("--most", type=click.IntRange(min=1), default=4_096, show_default=True, metavar="N", help="Stop there.")
@data_options
@load_options
@model_options
@lm_option()
@device_option("--device")
@token_option
@session_options
def capacity(bound: float, moment: str, start: int, most: int, **options: Any) -> None:
    """Find the most live streams whose 95th percentile of per-word latency stays under a bound.

    The number of streams is doubled until the bound is broken, then bisected to about 6 %. Every trial is told, with
    its latencies and its CPU use: the curve, not only the figure. Streams are those of `bench latency`.
    """
    check_place(options["url"])
    with needs("bench", "this benchmark"):
        from . import plots, tables, trials
        from .streams import Plan

    out: Path | None = options["out"]
    outcomes: dict[int, trials.Outcome] = {}
    with trials.bench_of(options) as bench:

        def good(streams: int) -> bool:
            plan = Plan(streams, options["seconds"], options["warm_up"], options["packet_ms"])
            outcome = outcomes[streams] = bench.trial(plan)
            held = trials.within(outcome, bound, moment)
            click.echo(f"{streams} streams: {outcome.trial.problem or ('held' if held else 'too late')}", err=True)
            return held

        best = search(good, start=start, most=most)
        curve = [outcomes[streams] for streams in sorted(outcomes)]
        shown = [trials.curve(curve, bound, moment)]
        tables.show(shown)
        at_most = " (as many as were tried)" if best == most else ""
        click.echo(f"{best} live streams with p95 of words {moment} under {bound:g} s{at_most}")
        if out:
            report = tables.provenance("capacity") | bench.settings
            report |= {"bound_s": bound, "moment": moment, "streams": best}
            report |= {"trials": [outcome.report() for outcome in curve]}
            finished = [outcome for outcome in curve if outcome.found.committed]
            numbers = [outcome.trial.plan.streams for outcome in finished]
            lines = {
                f"{name} {percentile}": [outcome.found.report()[name][percentile] for outcome in finished]
                for name, percentile in (("shown", "p95"), ("committed", "p50"), ("committed", "p95"))
            }
            written = tables.write(out, "capacity", shown, report)
            for path in (*written, plots.curve(out / "capacity.png", numbers, lines, bound)):
                click.echo(f"written: {path}")


def search(good: Callable[[int], bool], *, start: int, most: int) -> int:
    """The largest number up to `most` that is good, if all below it are, to within a sixteenth; 0 if none is."""
    low, high, number = 0, most + 1, min(start, most)
    while high - low > max(1, low // 16):
        if good(number):
            low = number
        else:
            high = number
        number = min(2 * low, most) if high > most else (low + high) // 2
    return low
