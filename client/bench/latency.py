"""`xlsr-live bench latency`: the latency of words with several live streams at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...streaming.errors import XlsrLiveError
from ..console import needs
from ..options.model import recognizer_options
from ..options.server import check_place, token_option
from ..options.session import session_options
from .options import data_options, load_options

EPILOG = """\b
Examples:
  xlsr-live bench latency --streams 4
  xlsr-live bench latency recordings/ --streams 16 --hop-ms 320 --lookahead-ms 320
  xlsr-live bench latency --streams 16 --url ws://127.0.0.1:8765/v1/stream --pid $(pgrep -f "xlsr-live serve")
\b
docs/benchmarks.md explains every figure.
"""


@click.command(epilog=EPILOG, short_help="The latency of words and finals.")
@click.option("--streams", type=click.IntRange(min=1), default=4, show_default=True, help="Live streams at once.")
@click.option("--verify", is_flag=True, help="Then recognize the same audio alone and compare all finals.")
@data_options
@load_options
@recognizer_options()
@token_option
@session_options
def latency(streams: int, verify: bool, **options: Any) -> None:
    """Measure the latency of words (shown, committed, final) with several live streams at once.

    The streams run in real time. They repeat the recordings (default: the packaged clips) with pauses between them, in
    this process or, with --url, on a server.
    """
    check_place(options["url"])
    with needs("bench", "this benchmark"):
        from . import load_tables, load_test, plots, tables
        from .streams import TrialPlan

    out: Path | None = options["out"]
    with load_test.open_load_test(options) as test:
        outcome = test.run(TrialPlan(streams, options["seconds"], options["warm_up"], options["packet_ms"]))
        shown = [load_tables.one_trial(outcome)]
        tables.show(shown)
        checked = test.verify(outcome) if verify else None
        if checked:
            click.echo(f"{checked.equal} of {checked.total} finals equal those of the same audio alone")
        if out:
            report = tables.provenance("latency") | test.settings
            report |= {"trials": [outcome.report()], "finals_as_alone": checked}
            kinds = {label: getattr(outcome.latencies, name) for name, label in load_tables.MOMENTS.items()}
            title = plots.titled(test.name, len(outcome.latencies.committed), f"words in {streams} streams")
            drawn = plots.distribution(out / "latency.png", kinds, title)
            for path in (*tables.write(out, "latency", shown, report), drawn):
                click.echo(f"written: {path}")
        if problem := outcome.trial.problem:
            raise XlsrLiveError(f"{streams} streams: {problem}")
