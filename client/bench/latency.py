"""`xlsr-live bench latency`: how late words come when so many people speak at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...streaming.errors import XlsrLiveError
from ..console import needs
from ..options.model import device_option, lm_option, model_options
from ..options.server import check_place, token_option
from ..options.session import session_options
from .options import data_options, load_options

EPILOG = """\b
Examples:
  xlsr-live bench latency --streams 4
  xlsr-live bench latency recordings/ --streams 16 --hop-ms 320 --lookahead-ms 320
  xlsr-live bench latency --streams 16 --url ws://127.0.0.1:8765/v1/stream --pid $(pgrep -f "xlsr-live serve")
\b
Every figure is explained in docs/benchmarks.md.
"""


@click.command(epilog=EPILOG, short_help="How late words and finals come.")
@click.option("--streams", type=click.IntRange(min=1), default=4, show_default=True, help="At once.")
@click.option("--verify", is_flag=True, help="Then check that every final is what the same audio gives alone.")
@data_options
@load_options
@model_options
@lm_option()
@device_option("--device")
@token_option
@session_options
def latency(streams: int, verify: bool, **options: Any) -> None:
    """Measure how late words are shown, committed and final with a number of live streams at once.

    Streams are paced like microphones and go through the recordings (default: the packaged clips) round and round,
    with pauses between them. They run in this process, or with --url on a server.
    """
    check_place(options["url"])
    with needs("bench", "this benchmark"):
        from . import tables, trials
        from .streams import Plan

    out: Path | None = options["out"]
    with trials.bench_of(options) as bench:
        outcome = bench.trial(Plan(streams, options["seconds"], options["warm_up"], options["packet_ms"]))
        shown = [trials.detail(outcome)]
        tables.show(shown)
        checked = bench.verify(outcome) if verify else None
        if checked:
            click.echo(f"{checked.equal} of {checked.total} finals are those of the same audio alone")
        if out:
            report = (
                tables.provenance("latency")
                | bench.settings
                | {"trials": [outcome.report()], "finals_as_alone": checked}
            )
            for path in tables.write(out, "latency", shown, report):
                click.echo(f"written: {path}")
        if problem := outcome.trial.problem:
            raise XlsrLiveError(f"{streams} streams: {problem}")
