"""`xlsr-live bench soak`: hours of audio through a server of its own, and whether anything grows."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ...streaming.errors import XlsrLiveError
from ..console import needs, waiting
from ..options.model import device_option, lm_option, model_options
from ..output.progress import progress
from .options import data_options, silence_option

if TYPE_CHECKING:
    from .account import Account
    from .own_server import OwnServer
    from .soaked import Soaked
    from .steady import Steady
    from .streams import Material

EPILOG = """\b
Examples:
  xlsr-live bench soak --hours 1
  xlsr-live bench soak recordings/ --model my/xlsr --hours 24 --out results/
\b
Every figure is explained in docs/benchmarks.md.
"""
RESUME_GRACE_S: Final = 5.0
SETTLE_S: Final = 60.0  # for the last sessions to go
PERCENT: Final = click.FloatRange(min=0)


@click.command(epilog=EPILOG, short_help="Whether a server can be left running: memory, latency, counters.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=8.0, show_default=True, help="Of audio.")
@click.option("--clients", type=click.IntRange(min=1), default=4, show_default=True, help="That come and go, at once.")
@click.option("--memory", type=PERCENT, default=5.0, show_default=True, metavar="PERCENT", help="By which it may grow.")
@click.option("--latency", type=PERCENT, default=50.0, show_default=True, metavar="PERCENT", help="Likewise.")
@silence_option
@click.option("--seed", type=int, default=0, show_default=True, help="Of what the clients do.")
@data_options
@model_options
@lm_option()
@device_option("--device")
def soak(hours: float, clients: int, memory: float, latency: float, silence: float, seed: int, **options: Any) -> int:
    """Send hours of audio through a server of its own, and see whether anything grows.

    Clients come and go with sessions of all kinds, as fast as they are taken; some connections break and come back,
    some clients vanish. Beside them one client speaks in real time, the same all the while. Exit status 1 if memory or
    latency grows, if the server's counters are not what the clients count, or if the same audio gets other words.
    """
    with needs("bench", "this benchmark"):
        from . import corpus, soaked, tables, trials
        from .account import Account
        from .own_server import own_server
        from .streams import Material

    out: Path | None = options["out"]
    with waiting("reading the recordings"):
        limit = options["limit"] or trials.MOST_RECORDINGS
        recordings = corpus.spoken(corpus.read_corpus(options["data"], where=options["where"], limit=limit))
        material = Material([trials.int16(recording) for recording in recordings], silence)
    flags = ["--device", options["compute"]]
    for name in ("model", "revision", "language", "dtype", "threads", "lm", "calibration"):
        flags += [f"--{name}", str(options[name])] if options[name] is not None else []
    flags += ["--max-sessions", str(4 * clients + 4), "--resume-grace-s", str(RESUME_GRACE_S)]
    account = Account()
    with own_server(flags) as server:
        try:
            found, steady = asyncio.run(_run(server, material, account, hours * 3600, clients, seed))
            with waiting("the client in real time once more, with nobody beside it"):
                _settled(server)
                drift = asyncio.run(steady.again())
            metrics = _settled(server)
        except XlsrLiveError:
            server.check()
            raise
    wrong = {
        f"resident memory grows by at most {memory:g} % after the first tenth": found.grown(memory),
        f"latency grows by at most {latency:g} %": found.slower(latency),
        "the server counted what the clients did": account.differences(metrics) + account.unexpected,
        "what a busy server hears is what an idle one hears": drift,
    }
    shown = [found.tenths(), soaked.verdict(wrong, account, steady)]
    tables.show(shown)
    if out:
        report = tables.provenance("soak") | {"data": str(options["data"] or "packaged clips"), "seed": seed}
        report |= {"found": found, "account": account, "metrics": metrics, "wrong": wrong}
        for path in tables.write(out, "soak", shown, report):
            click.echo(f"written: {path}")
    return 1 if any(wrong.values()) else 0


async def _run(
    server: OwnServer, material: Material, account: Account, audio_s: float, clients: int, seed: int
) -> tuple[Soaked, Steady]:
    from .churn import Churn
    from .soaked import TENTHS, Look, Soaked
    from .steady import Steady

    found, steady = Soaked(audio_s), Steady(server.url, material, account)
    begun, heard, minutes = time.monotonic(), 0.0, 0

    def done() -> float:
        return min(1.0, heard / audio_s)

    def count(seconds: float) -> None:
        nonlocal heard, minutes
        heard += seconds
        while 60 * (minutes + 1) <= min(heard, audio_s):
            minutes += 1
            advance()

    async def look() -> None:
        tenth = 0
        while done() < 1:
            found.looks.append(Look(done(), time.monotonic() - begun, server.resident_mib(), server.cpu_s()))
            if int(TENTHS * done()) > tenth:
                tenth = int(TENTHS * done())
                click.echo(found.line(found.looks[-1]), err=True)
            await asyncio.sleep(min(1.0, audio_s / 1000))

    churn = Churn(server.url, material, seed, account, count)
    with progress(int(audio_s // 60)) as (advance, _):
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(steady.run(done))
                group.create_task(look())
                for number in range(clients):
                    group.create_task(churn.client(number, lambda: done() >= 1))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
    found.partial_lags, found.final_lags = steady.partial_lags, steady.final_lags
    return found, steady


def _settled(server: OwnServer) -> dict[str, float]:
    """The server's numbers once the sessions of clients that vanished have ended too."""
    until = time.monotonic() + SETTLE_S
    while (metrics := server.metrics())["xlsr_live_sessions_open"] and time.monotonic() < until:
        time.sleep(0.5)
    return metrics
