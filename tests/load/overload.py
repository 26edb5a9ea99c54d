"""A running server with several times the sessions that it admits: `python -m tests.load.overload`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlsplit

import click
import msgspec
from xlsr_live.client.bench import corpus, tables
from xlsr_live.client.bench.load_test import read_int16
from xlsr_live.client.bench.options import data_options, silence_option
from xlsr_live.client.bench.streams import Playlist
from xlsr_live.client.errors import ConnectionProblem
from xlsr_live.client.options.address import SERVER_URL, url_option
from xlsr_live.client.options.server import read_token, token_option
from xlsr_live.client.options.session import session_config, session_options
from xlsr_live.client.proxies import open_url
from xlsr_live.client.remote.connection import OPEN_TIMEOUT
from xlsr_live.client.remote.websocket import connect
from xlsr_live.streaming.errors import ConfigError, XlsrLiveError
from xlsr_live.streaming.frames import SAMPLE_RATE

from tests.load import overload_verdict
from tests.load.load_clients import LoadClients
from tests.load.program import run_program

MAX_SCRIPTS: Final = 16  # different streams; each has a baseline
PACKET: Final = SAMPLE_RATE // 10
POSITIVE: Final = click.FloatRange(min=0, min_open=True)
EPILOG = """\b
Examples:
  xlsr-live serve --model my/xlsr                          # in another terminal
  python -m tests.load.overload recordings/ --minutes 10
\b
docs/benchmarks.md explains every figure.
"""


@click.command(name="overload", epilog=EPILOG)
@url_option("The server.", SERVER_URL)
@click.option(
    "--times", type=POSITIVE, default=3.0, show_default=True, metavar="X", help="Clients for each allowed session."
)
@click.option("--minutes", type=POSITIVE, default=10.0, show_default=True, help="Time in which new sessions start.")
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
    type=POSITIVE,
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Allowed p95 of the finals' lag in any minute.",
)
@silence_option
@data_options
@token_option
@session_options
def overload(
    url: str, times: float, minutes: float, session_s: float, lag: float, silence: float, **options: Any
) -> int:
    """Offer a server several times the sessions that it admits; watch refusals, lag and finals.

    First each stream runs alone as a baseline. Then all clients stream in real time and return; a refused client
    returns after the server's Retry-After. The exit status is 1 if finals differ from the baseline, if a refusal has no
    Retry-After, or if finals lag too much.
    """
    clients, settings = build_clients(url, times, session_s, silence, options)
    result = clients.run(60 * minutes)
    violations = overload_verdict.violations(result, lag)
    shown = [
        overload_verdict.by_minute(result),
        overload_verdict.refusals(result),
        overload_verdict.verdict(violations),
    ]
    tables.show(shown)
    click.echo(f"{result.equal} of {result.total} finals are those of the same audio on the idle server")
    out: Path | None = options["out"]
    if out:
        report = tables.provenance("overload", program="python -m tests.load.overload")
        report |= settings | result.report() | {"wrong": violations}
        for path in tables.write(out, "overload", shown, report):
            click.echo(f"written: {path}")
    if result.broken:
        raise XlsrLiveError(f"{len(result.broken)} sessions broke, the first by: {result.broken[0]}")
    if not result.total:
        raise ConfigError("no session completed: choose longer --minutes, or a server that is ready")
    return 1 if any(violations.values()) else 0


def build_clients(
    url: str, times: float, session_s: float, silence: float, options: dict[str, Any]
) -> tuple[LoadClients, dict[str, Any]]:
    """The clients that the options describe, and the settings for the report. Raises `XlsrLiveError`."""
    config, token = session_config(options), read_token(options["token_file"])
    limit = session_limit(url)
    found = corpus.spoken(corpus.read_corpus(options["data"], where=options["where"], limit=options["limit"]))
    if len(found) > MAX_SCRIPTS:
        found = [found[place * len(found) // MAX_SCRIPTS] for place in range(MAX_SCRIPTS)]
    playlist, total = Playlist([read_int16(one) for one in found], silence), round(session_s * SAMPLE_RATE)
    clients = LoadClients(
        [list(playlist.packets(number, PACKET, total)) for number in range(len(found))],
        partial(connect, url, config=config, token=token),
        clients=max(1, round(times * limit)),
        limit=limit,
    )
    settings = {"data": str(options["data"] or "packaged clips"), "url": url, "times": times, "session_s": session_s}
    return clients, settings | {"silence": silence, "config": msgspec.to_builtins(config)}


def session_limit(url: str) -> int:
    """The number of sessions that the server admits, from its `/readyz`. Raises `ConnectionProblem`."""
    parts = urlsplit(url)
    ready = f"{parts.scheme.replace('ws', 'http', 1)}://{parts.netloc}/readyz"
    try:
        try:
            answer = open_url(ready, timeout=OPEN_TIMEOUT)
        except HTTPError as error:  # 503 is the answer of a server that is not ready; its body has the same form
            answer = error
        with answer:
            return int(msgspec.json.decode(answer.read(1 << 16), type=dict[str, Any])["limit"])
    except (OSError, ValueError, KeyError, msgspec.DecodeError) as error:
        raise ConnectionProblem(f"{ready} does not say how many sessions the server may have ({error})") from None


if __name__ == "__main__":
    sys.exit(run_program(overload))
