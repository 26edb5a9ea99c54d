"""Hours of audio through a server, to see whether memory or latency grows: `python -m tests.load.soak`."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any, Final

import click
from xlsr_live.client.bench import corpus, tables
from xlsr_live.client.bench.load_test import MAX_RECORDINGS, read_int16
from xlsr_live.client.bench.options import data_options, silence_option
from xlsr_live.client.bench.streams import Playlist
from xlsr_live.client.console import waiting
from xlsr_live.client.options.model import language_option, recognizer_options
from xlsr_live.client.output.progress import progress
from xlsr_live.streaming.errors import XlsrLiveError

from tests.load import soak_result
from tests.load.churn_clients import ChurnClients
from tests.load.ledger import Ledger
from tests.load.program import run_program
from tests.load.realtime_client import RealtimeClient
from tests.load.server_process import SoakServer, server_process
from tests.load.soak_result import TENTHS, ServerSample, SoakResult

EPILOG = """\b
Examples:
  python -m tests.load.soak --hours 1
  python -m tests.load.soak recordings/ --model my/xlsr --hours 24 --out results/
\b
docs/benchmarks.md explains every figure.
"""
RESUME_GRACE_S: Final = 5.0
SETTLE_S: Final = 60.0  # for the end of the last sessions
PERCENT: Final = click.FloatRange(min=0)


@click.command(name="soak", epilog=EPILOG)
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=8.0, show_default=True, help="Of audio.")
@click.option("--clients", type=click.IntRange(min=1), default=4, show_default=True, help="Churn clients at once.")
@click.option("--memory", type=PERCENT, default=5.0, show_default=True, metavar="PERCENT", help="Allowed growth.")
@click.option("--latency", type=PERCENT, default=50.0, show_default=True, metavar="PERCENT", help="Allowed growth.")
@silence_option
@click.option("--seed", type=int, default=0, show_default=True, help="Of the clients' choices.")
@data_options
@recognizer_options()
@language_option
def soak(hours: float, clients: int, memory: float, latency: float, silence: float, seed: int, **options: Any) -> int:
    """Send hours of audio through a server of its own and look for growth.

    Churn clients open sessions of all kinds at full speed; some connections break and resume, some clients vanish.
    One more client sends the same recordings in real time throughout. The exit status is 1 if memory or latency grows,
    if the server's counters differ from the clients' ledger, or if the same audio gives different words.
    """
    out: Path | None = options["out"]
    with waiting("reading the recordings"):
        limit = options["limit"] or MAX_RECORDINGS
        recordings = corpus.spoken(corpus.read_corpus(options["data"], where=options["where"], limit=limit))
        playlist = Playlist([read_int16(recording) for recording in recordings], silence)
    ledger = Ledger()
    with server_process(_flags(options, clients)) as server:
        try:
            result, client = asyncio.run(_run(server, playlist, ledger, hours * 3600, clients, seed))
            with waiting("repeating the audio of the client in real time on the idle server"):
                _settle(server)
                drift = asyncio.run(client.repeat())
            metrics = _settle(server)
        except XlsrLiveError:
            server.check()
            raise
    violations = {
        f"resident memory grows by at most {memory:g} % after the first tenth": result.memory_growth(memory),
        f"latency grows by at most {latency:g} %": result.latency_growth(latency),
        "the server's counters equal the clients' ledger": ledger.differences(metrics) + ledger.unexpected,
        "the busy server gives the words of the idle server": drift,
    }
    shown = [result.table(), soak_result.verdict(violations, ledger, client)]
    tables.show(shown)
    if out:
        report = tables.provenance("soak", program="python -m tests.load.soak")
        report |= {"data": str(options["data"] or "packaged clips"), "seed": seed}
        report |= {"found": result, "account": ledger, "metrics": metrics, "wrong": violations}
        for path in tables.write(out, "soak", shown, report):
            click.echo(f"written: {path}")
    return 1 if any(violations.values()) else 0


def _flags(options: dict[str, Any], clients: int) -> list[str]:
    """The options of `xlsr-live serve`."""
    flags = ["--device", options["compute"]]
    for name in ("model", "revision", "language", "dtype", "threads", "lm", "calibration"):
        flags += [f"--{name}", str(options[name])] if options[name] is not None else []
    return [*flags, "--max-sessions", str(4 * clients + 4), "--resume-grace-s", str(RESUME_GRACE_S)]


async def _run(
    server: SoakServer, playlist: Playlist, ledger: Ledger, audio_s: float, clients: int, seed: int
) -> tuple[SoakResult, RealtimeClient]:
    result, client = SoakResult(audio_s), RealtimeClient(server.url, playlist, ledger)
    started, recognized, minutes = time.monotonic(), 0.0, 0

    def done() -> float:
        return min(1.0, recognized / audio_s)

    def on_progress(seconds: float) -> None:
        nonlocal recognized, minutes
        recognized += seconds
        while 60 * (minutes + 1) <= min(recognized, audio_s):
            minutes += 1
            advance()

    async def sample_server() -> None:
        tenth = 0
        while done() < 1:
            sample = ServerSample(done(), time.monotonic() - started, server.resident_mib(), server.cpu_s())
            result.samples.append(sample)
            if int(TENTHS * sample.done) > tenth:
                tenth = int(TENTHS * sample.done)
                click.echo(result.progress_line(sample), err=True)
            await asyncio.sleep(min(1.0, audio_s / 1000))

    churn = ChurnClients(server.url, playlist, seed, ledger, on_progress)
    with progress(int(audio_s // 60)) as (advance, _):
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(client.run(done))
                group.create_task(sample_server())
                for number in range(clients):
                    group.create_task(churn.run_client(number, lambda: done() >= 1))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
    result.partial_lags, result.final_lags = client.partial_lags, client.final_lags
    return result, client


def _settle(server: SoakServer) -> dict[str, float]:
    """The server's metrics once the sessions of clients that vanished have ended."""
    deadline = time.monotonic() + SETTLE_S
    while (metrics := server.metrics())["xlsr_live_sessions_open"] and time.monotonic() < deadline:
        time.sleep(0.5)
    return metrics


if __name__ == "__main__":
    sys.exit(run_program(soak))
