"""One process against several: `python -m tests.figures.measure_fronts [--streams 12] [--fronts 2] [--rounds 3]`.

A server with one process and one with several fronts take turns, each with the packaged model and the same paced
streams. It prints the CPU time of all their processes, which other programs hardly change, and the lags that the events
state, which they do. The last table sends the same requests to an engine in this process and to one in another, with a
model that answers at once: what the link itself costs.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from websockets.asyncio.client import connect
from xlsr_live.client.bench.resources import cpu_of
from xlsr_live.client.sources.clips import load_clips
from xlsr_live.server.processes.engine_host import EngineHost
from xlsr_live.server.processes.remote_engine import RemoteEngine
from xlsr_live.server.processes.remote_model import describe
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.protocol.events import Final, Partial, from_json
from xlsr_live.streaming.recognizer import Recognizer

from tests.load.profile_server import TalkativeEncoder
from tests.load.server_process import ready_url, start_server
from tests.support.fakes import FakeEncoder

PACKET = 3_200  # bytes: 100 ms
SETTLE_S = 6.0
STEP = 7_760  # samples of a live step
CONTEXT = multiprocessing.get_context("spawn")


@dataclass
class Figures:
    """Of all rounds of one kind of server."""

    cpu: list[float] = field(default_factory=list)  # seconds for a second of a stream, by round
    engine: list[float] = field(default_factory=list)  # the part of the engine process
    memory: list[float] = field(default_factory=list)  # MiB; shared pages are divided
    partial: list[float] = field(default_factory=list)  # ms
    final: list[float] = field(default_factory=list)  # ms


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def proportional_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


async def stream(url: str, audio: bytes, until: float, measuring: asyncio.Event, found: Figures) -> None:
    async with connect(url, compression=None, ping_interval=None, open_timeout=60) as websocket:

        async def listen() -> None:
            async for message in websocket:
                event = from_json(message)
                if measuring.is_set() and isinstance(event, Partial | Final):
                    (found.partial if isinstance(event, Partial) else found.final).append(event.lag_ms)

        listening, due, at = asyncio.create_task(listen()), time.monotonic(), 0
        while time.monotonic() < until:
            await websocket.send(audio[at : at + PACKET])
            at = at + PACKET if at + PACKET < len(audio) else 0
            due += 0.1
            await asyncio.sleep(due - time.monotonic())
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening


async def load(url: str, pids: list[int], streams: int, seconds: float, found: Figures) -> None:
    clips = [soundfile.read(clip.path, dtype="int16")[0] for clip in load_clips()]
    silence = np.zeros(16_000, np.int16)
    audio = np.concatenate([part for clip in clips for part in (clip, silence)]).tobytes()
    measuring, until = asyncio.Event(), time.monotonic() + SETTLE_S + seconds
    shifted = [audio[at:] + audio[:at] for at in (number * 2 * 16_017 % len(audio) & ~1 for number in range(streams))]
    async with asyncio.TaskGroup() as group:
        for each in shifted:
            group.create_task(stream(url, each, until, measuring, found))
        await asyncio.sleep(SETTLE_S)
        before, started = [cpu_of(pid) or 0.0 for pid in pids], time.monotonic()
        measuring.set()
        await asyncio.sleep(seconds - 1)
        after, taken = [cpu_of(pid) or 0.0 for pid in pids], time.monotonic() - started
        measuring.clear()
        spent = [(late - early) / taken / streams for early, late in zip(before, after, strict=True)]
        found.cpu.append(sum(spent))
        found.engine.append(spent[2] if len(spent) > 2 else 0.0)  # after the supervisor and the resource tracker
        found.memory.append(sum(map(proportional_mib, pids)))


def round_of(fronts: int, streams: int, seconds: float, found: Figures) -> None:
    process = start_server(["--fronts", str(fronts), "--max-sessions", str(2 * streams), "--log-level", "error"])
    try:
        url = ready_url(process)
        assert url
        asyncio.run(load(url, family(process.pid), streams, seconds, found))
    finally:
        process.terminate()
        process.communicate()


# ── the link alone ──


def host(address: str) -> None:
    with Recognizer(FakeEncoder()) as recognizer:
        description = describe(recognizer, limit=1)
    EngineHost(Engine(TalkativeEncoder()), None, description, address)  # type: ignore[arg-type]
    threading.Event().wait()


def round_trip(engine: Any, samples: Any) -> float:
    started = time.perf_counter()
    engine.submit(samples, deadline=0.0).result()
    return 1000 * (time.perf_counter() - started)


def link(requests: int) -> dict[str, tuple[list[float], float]]:
    """Milliseconds from request to answer, and CPU milliseconds of a request in all processes."""
    samples = np.random.default_rng(0).standard_normal(STEP).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        address = f"{folder}/engine"
        process = CONTEXT.Process(target=host, args=(address,), daemon=True)
        process.start()
        remote, local = RemoteEngine(address), Engine(TalkativeEncoder())  # type: ignore[arg-type]
        remote.description.result()
        times: dict[str, tuple[list[float], float]] = {}
        taken: dict[str, list[float]] = {"in this process": [], "in another process": []}
        cpu = dict.fromkeys(taken, 0.0)
        for at in range(requests // 100):
            for name, engine in (("in this process", local), ("in another process", remote)):
                started = time.process_time() + (cpu_of(process.pid or 0) or 0.0)
                taken[name] += [round_trip(engine, samples) for _ in range(100)][bool(at == 0) * 50 :]
                cpu[name] += time.process_time() + (cpu_of(process.pid or 0) or 0.0) - started
        for name, values in taken.items():
            times[name] = values, 1000 * cpu[name] / requests
        remote.close()
        local.close()
        process.kill()
        process.join()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=12)
    parser.add_argument("--fronts", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    found = {1: Figures(), options.fronts: Figures()}
    for _ in range(options.rounds):
        for fronts, figures in found.items():
            round_of(fronts, options.streams, options.seconds, figures)
    print(f"{options.streams} streams, {options.rounds} rounds, {os.getloadavg()[2]:.1f} processes ran at a time")
    for fronts, figures in found.items():
        cpu, engine = 1000 * np.array(figures.cpu), 1000 * np.array(figures.engine)
        lags = [np.percentile(each, [50, 95]).round() for each in (figures.partial, figures.final)]
        print(
            f"fronts {fronts}: CPU {np.median(cpu):.1f} ms a stream-second ({cpu.min():.1f} to {cpu.max():.1f}), of it "
            f"the engine {np.median(engine):.1f}; {np.median(figures.memory):.0f} MiB; lag p50, p95: partials "
            f"{lags[0][0]:.0f}, {lags[0][1]:.0f} ms, finals {lags[1][0]:.0f}, {lags[1][1]:.0f} ms"
        )
    for name, (values, cpu_ms) in link(2_000).items():
        p50, p95, p99 = np.percentile(values, [50, 95, 99])
        print(f"engine {name}: p50 {p50:.2f}, p95 {p95:.2f}, p99 {p99:.2f} ms, CPU {cpu_ms:.2f} ms a request")


if __name__ == "__main__":
    main()
