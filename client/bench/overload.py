"""`xlsr-live bench overload`: what a server does with several times the sessions that it carries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...streaming.errors import ConfigError, XlsrLiveError
from ..console import needs
from ..options.server import SERVER_URL, token_option
from ..options.session import session_options
from .options import data_options, silence_option

EPILOG = """\b
Examples:
  xlsr-live serve --model my/xlsr                          # in another terminal
  xlsr-live bench overload recordings/ --minutes 10
\b
Every figure is explained in docs/benchmarks.md.
"""


@click.command(epilog=EPILOG, short_help="A server with three times the sessions that it carries.")
@click.option("--url", default=SERVER_URL, show_default=True, metavar="URL", help="The server's.")
@click.option(
    "--times",
    type=click.FloatRange(min=0, min_open=True),
    default=3.0,
    show_default=True,
    metavar="X",
    help="Clients for each session that the server may have.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="New sessions begin for so long.",
)
@click.option(
    "--session-s",
    type=click.FloatRange(min=1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Length of a session.",
)
@click.option(
    "--lag",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Most that the p95 of finals may lag in any minute.",
)
@silence_option
@data_options
@token_option
@session_options
def overload(
    url: str, times: float, minutes: float, session_s: float, lag: float, silence: float, **options: Any
) -> int:
    """Offer a server several times the sessions that it may have, and watch refusals, lag and finals.

    First a few streams go through it one after another, with nobody beside them. Then clients come, speak in real time
    and come again; who is refused comes back when the server says. Exit status 1 if finals are not what they were at
    first, if a refusal does not say when to come again, or if finals lag too much.
    """
    with needs("bench", "this benchmark"):
        from . import crowd, crowded, tables

    people, settings = crowd.gather(url, times, session_s, silence, options)
    told = people.come(60 * minutes)
    wrong = crowded.wrong(told, lag)
    shown = [crowd.by_minute(told), crowd.refusals(told), crowded.verdict(wrong)]
    tables.show(shown)
    click.echo(f"{told.equal} of {told.total} finals are those of the same audio with nobody beside it")
    out: Path | None = options["out"]
    if out:
        report = tables.provenance("overload") | settings | told.report() | {"wrong": wrong}
        for path in tables.write(out, "overload", shown, report):
            click.echo(f"written: {path}")
    if told.broken:
        raise XlsrLiveError(f"{len(told.broken)} sessions broke, the first by: {told.broken[0]}")
    if not told.total:
        raise ConfigError("no session came to its end: longer --minutes, or a server that is ready")
    return 1 if any(wrong.values()) else 0
