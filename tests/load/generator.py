"""Load from many processes: `python -m tests.load.generator --url HOST:PORT,HOST:PORT --processes 4 --clients 1000`."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from threading import BrokenBarrierError
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from xlsr_live.client.bench import corpus, tables
from xlsr_live.client.bench.load_tables import MOMENTS
from xlsr_live.client.bench.load_test import read_int16
from xlsr_live.client.bench.options import data_options, silence_option
from xlsr_live.client.bench.resources import cpu_of
from xlsr_live.client.bench.streams import Playlist
from xlsr_live.client.options.address import SERVER_URL, urls_option
from xlsr_live.client.options.server import read_token, token_option
from xlsr_live.client.options.session import session_config, session_options
from xlsr_live.client.output.latency import percentiles
from xlsr_live.streaming.errors import ConfigError, XlsrLiveError
from xlsr_live.streaming.frames import SAMPLE_RATE

from tests.load.crowd import CrowdPlan, CrowdResult, baseline, prepare, run_crowd
from tests.load.program import run_program

MAX_SCRIPTS: Final = 16  # different streams; each has a baseline
START_S: Final = 120.0  # for all processes to start
POSITIVE: Final = click.FloatRange(min=0, min_open=True)
EPILOG = """\b
Examples:
  python -m tests.load.generator --clients 50 --seconds 30
  python -m tests.load.generator recordings/ --url 127.0.0.1:8001,127.0.0.1:8002 --processes 4 --clients 1000
"""


@click.command(name="generator", epilog=EPILOG)
@urls_option("The server, or several. Clients begin on each in turn.", SERVER_URL)
@click.option("--processes", type=click.IntRange(1, 256), default=2, show_default=True, help="Client processes.")
@click.option("--clients", type=click.IntRange(min=1), default=20, show_default=True, help="Clients of all processes.")
@click.option("--ramp", type=POSITIVE, default=5.0, show_default=True, help="Seconds in which the clients begin.")
@click.option("--seconds", type=POSITIVE, default=30.0, show_default=True, help="Measured time after that.")
@click.option("--session-s", type=click.FloatRange(min=1), default=30.0, show_default=True, help="Length of a session.")
@click.option("--packet-ms", type=click.IntRange(10, 2_000), default=100, show_default=True, help="Length of a packet.")
@click.option("--pid", type=int, multiple=True, help="A server process here, to measure its CPU time; repeat it.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the waiting times after refusals.")
@silence_option
@data_options
@token_option
@session_options
def generator(seconds: float, ramp: float, pid: Sequence[int], **options: Any) -> int:
    """Send real speech in many paced sessions from several processes, and count what comes back.

    First each of at most 16 streams runs alone. Then all clients stream in real time, one session after another; a
    refused one returns after the server's Retry-After. It ends when the last sessions have ended. One JSON object goes
    to standard output, tables to standard error. The exit status is 1 if an utterance is lost or doubled, a session
    breaks, or a refusal has no Retry-After.
    """
    plan = make_plan(seconds, ramp, options)
    result, server_cpu = run(plan, pid)
    report = tables.provenance("generator", program="python -m tests.load.generator")
    report |= {"urls": plan.urls, "processes": plan.processes, "clients": plan.clients, "ramp_s": ramp}
    report |= {"measured_s": seconds, "server_cpu_s": server_cpu, **result.report()}
    click.echo(msgspec.json.encode(report).decode())
    shown = [counts(plan, result, server_cpu), latency_table(result)]
    for table in shown:
        table.show(Console(stderr=True, width=120))
    if options["out"]:
        for path in tables.write(options["out"], "generator", shown, report):
            click.echo(f"written: {path}", err=True)
    if not result.completed:
        raise ConfigError("no session completed: choose longer --seconds, or servers that are ready")
    for problem in result.problems:
        click.echo(problem, err=True)
    return 1 if result.problems else 0


def make_plan(seconds: float, ramp: float, options: dict[str, Any]) -> CrowdPlan:
    """The plan that the options describe, with its baselines from the first server. Raises `XlsrLiveError`."""
    limit = min(options["limit"] or MAX_SCRIPTS, MAX_SCRIPTS)
    found = corpus.spoken(corpus.read_corpus(options["data"], where=options["where"], limit=limit))
    playlist = Playlist([read_int16(one) for one in found], options["silence"])
    size, total = options["packet_ms"] * SAMPLE_RATE // 1000, round(options["session_s"] * SAMPLE_RATE)
    scripts = [list(playlist.packets(number, size, total)) for number in range(len(found))]
    server = {"url": options["url"], "config": session_config(options), "token": read_token(options["token_file"])}

    async def baselines() -> list[Any]:
        return [await baseline(server, script) for script in scripts]

    return CrowdPlan(
        urls=options["url"],
        token=server["token"],
        config=server["config"],
        scripts=scripts,
        baselines=asyncio.run(baselines()),
        clients=options["clients"],
        processes=min(options["processes"], options["clients"]),
        ramp=ramp,
        seconds=seconds,
        packet_s=size / SAMPLE_RATE,
        seed=options["seed"],
    )


def run(plan: CrowdPlan, pids: Sequence[int] = ()) -> tuple[CrowdResult, dict[int, float | None]]:
    """Run all processes; the sum of their results, and the CPU time of each of `pids` after the ramp.

    Raises `XlsrLiveError` if a process fails.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(plan.processes + 1)
    with ProcessPoolExecutor(plan.processes, context, prepare, (barrier,)) as pool:
        futures = [pool.submit(run_crowd, plan, number) for number in range(plan.processes)]
        try:
            barrier.wait(START_S)
            time.sleep(plan.ramp)
            before = {pid: cpu_of(pid) for pid in pids}
            time.sleep(plan.seconds)
            taken = {pid: None if None in (at, now := cpu_of(pid)) else now - at for pid, at in before.items()}
            total = CrowdResult()
            for future in futures:
                total.add(future.result())
        except (BrokenProcessPool, BrokenBarrierError):
            barrier.abort()
            raise XlsrLiveError("a client process ended before its time") from None
    return total, taken


def counts(plan: CrowdPlan, result: CrowdResult, server_cpu: dict[int, float | None]) -> tables.Table:
    refused = {f"refused: {each.code} ({each.status})": str(count) for each, count in result.refusals.items()}
    streams = result.audio_s / plan.seconds
    rows = {
        "sessions started, completed, broken": f"{result.started}, {result.completed}, {result.broken.total()}",
        **refused,
        "sessions moved, connections resumed": f"{result.moved}, {result.resumed}",
        "seconds without text when moved in mid-utterance: p50, most": _seconds(result.gaps),
        "highest overload level": str(result.level),
        "finals of the same audio alone": str(result.finals["finals"]),
        "of these identical, same text, other text": ", ".join(
            str(result.finals[name]) for name in ("identical", "same text", "other text")
        ),
        "lost, doubled, misnumbered": ", ".join(
            str(result.finals[name]) for name in ("lost", "doubled", "misnumbered")
        ),
        "streams on average": f"{streams:.1f}",
        "packet sent late, p99": f"{1000 * percentiles(result.late).get('p99', 0.0):.0f} ms",
        "clients: CPU for each second of a stream": _per_second(result.cpu_s, result.audio_s),
    }
    for pid, taken in server_cpu.items():
        share = _per_second(taken or 0.0, result.audio_s / len(server_cpu))
        rows[f"server {pid}: cores, CPU for each second of a stream"] = f"{(taken or 0.0) / plan.seconds:.2f}, {share}"
    title = f"{plan.clients} clients in {plan.processes} processes, {plan.seconds:g} s"
    return tables.Table(title, ["", "count"], list(map(list, rows.items())))


def latency_table(result: CrowdResult) -> tables.Table:
    rows: list[list[str]] = []
    for name, label in MOMENTS.items():
        found = percentiles(getattr(result.latencies, name))
        cells = [f"{found[each]:.2f}" if each in found else "" for each in ("p50", "p95", "p99", "max")]
        rows.append([label, *cells, str(found["count"])])
    return tables.Table("Latency", ["seconds", "p50", "p95", "p99", "most", "count"], rows)


def _seconds(values: Sequence[float]) -> str:
    found = percentiles(values)
    return f"{found['p50']:.1f}, {found['max']:.1f}" if values else ""


def _per_second(cpu_s: float, audio_s: float) -> str:
    return f"{1000 * cpu_s / audio_s:.2f} ms" if audio_s else ""


if __name__ == "__main__":
    sys.exit(run_program(generator))
