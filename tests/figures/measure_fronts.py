"""One process against several: `python -m tests.figures.measure_fronts [--streams 4] [--fronts 2] [--rounds 3]`.

A server with one process and one with several fronts take turns, each with the packaged model. Every stream sends the
packaged clips as fast as the server takes them, so nothing is left out under load: the CPU time of all processes for a
second of audio depends little on other programs. The last lines send the same requests to an engine in this process and
to one in another, with a model that answers at once: what the link itself costs (alone: `--rounds 0`).
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from xlsr_live.client.bench.resources import cpu_of
from xlsr_live.client.sources.clips import load_clips
from xlsr_live.server.processes.engine_host import EngineHost
from xlsr_live.server.processes.remote_engine import RemoteEngine
from xlsr_live.server.processes.remote_model import describe
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.protocol.events import Final, Partial, SessionEnded
from xlsr_live.streaming.recognizer import Recognizer

from tests.load.profile_server import TalkativeEncoder
from tests.load.server_process import ready_url, start_server
from tests.support.fakes import FakeEncoder
from tests.support.wire import END, packets, talk

STEP = 7_760  # samples of a live step
CONTEXT = multiprocessing.get_context("spawn")


@dataclass
class Figures:
    """Of all rounds of one kind of server."""

    cpu: list[float] = field(default_factory=list)  # ms for a second of audio, by round
    engine: list[float] = field(default_factory=list)  # the part of the engine process
    memory: list[float] = field(default_factory=list)  # MiB; shared pages are divided
    speed: list[float] = field(default_factory=list)  # seconds of audio in a second
    level: int = 0  # the highest


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def proportional_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


async def stream(url: str, audio: bytes, found: Figures) -> None:
    received = await talk(url, [*packets(audio), END])
    assert isinstance(received.events[-1], SessionEnded)
    found.level = max([found.level, *(event.level for event in received.events if isinstance(event, Partial | Final))])


async def load(url: str, pids: list[int], streams: int, found: Figures) -> None:
    clips = [soundfile.read(clip.path, dtype="int16")[0] for clip in load_clips()]
    silence = np.zeros(16_000, np.int16)
    audio = np.concatenate([part for clip in clips for part in (clip, silence)])
    await stream(url, audio.tobytes(), found)  # the first session does what is done once
    before, started = [cpu_of(pid) or 0.0 for pid in pids], time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(streams):
            group.create_task(stream(url, np.roll(audio, number * 16_017).tobytes(), found))
    seconds = streams * len(audio) / 16_000
    spent = [1000 * ((cpu_of(pid) or 0.0) - cpu) / seconds for pid, cpu in zip(pids, before, strict=True)]
    found.speed.append(seconds / (time.monotonic() - started))
    found.cpu.append(sum(spent))
    found.engine.append(spent[2] if len(spent) > 2 else 0.0)  # after the supervisor and the resource tracker
    found.memory.append(sum(map(proportional_mib, pids)))


def round_of(fronts: int, streams: int, found: Figures) -> None:
    process = start_server(["--fronts", str(fronts), "--max-sessions", str(2 * streams), "--log-level", "error"])
    try:
        url = ready_url(process)
        assert url
        asyncio.run(load(url, family(process.pid), streams, found))
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
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--fronts", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found = {1: Figures(), options.fronts: Figures()}
    for _ in range(options.rounds):
        for fronts, figures in found.items():
            round_of(fronts, options.streams, figures)
    print(f"{options.streams} streams, {options.rounds} rounds; load average {os.getloadavg()[2]:.1f}")
    for fronts, figures in found.items() if options.rounds else ():
        print(
            f"fronts {fronts}: CPU {np.median(figures.cpu):.1f} ms for a second of audio ({min(figures.cpu):.1f} to "
            f"{max(figures.cpu):.1f}), of it the engine {np.median(figures.engine):.1f}; "
            f"{np.median(figures.speed):.1f} s of audio in a second; {np.median(figures.memory):.0f} MiB; "
            f"level {figures.level} at most"
        )
    for name, (values, cpu_ms) in link(2_000).items():
        p50, p95, p99 = np.percentile(values, [50, 95, 99])
        print(f"engine {name}: p50 {p50:.2f}, p95 {p95:.2f}, p99 {p99:.2f} ms, CPU {cpu_ms:.2f} ms a request")


if __name__ == "__main__":
    main()
