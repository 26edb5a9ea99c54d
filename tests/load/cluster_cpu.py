"""The CPU time of sessions in replicas beside that of one process: `python -m tests.load.cluster_cpu --streams 300`.

Real websocket clients stream real speech in real time, in turns to one server and to `--replicas` of them under Ray
Serve, both with the fake encoder of `profile_server`. The time is that of all processes of the server, by their part.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass

import psutil
from prometheus_client.parser import text_string_to_metric_families
from xlsr_live.client.proxies import open_url
from xlsr_live.server.cluster.local import serve_replicas
from xlsr_live.server.run import serve
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming import Partial, Recognizer
from xlsr_live.streaming.frames import ms

from tests.load.profile_server import EndlessClients, TalkativeEncoder, speech
from tests.load.server_process import ready_url
from tests.support.paths import ROOT

PACKET_MS = 100
PARTS = {"ray::ServeReplica": "replicas", "haproxy": "HAProxy", "ray::ProxyActor": "Python proxy"}


@dataclass
class Cost:
    """One measurement."""

    cpu_s: Counter[str]  # by part
    audio_s: float  # received
    partials: int

    def __str__(self) -> str:
        each = {part: 1e3 * spent / self.audio_s for part, spent in self.cpu_s.most_common()}
        parts = ", ".join(f"{part} {spent:.2f}" for part, spent in each.items())
        return f"{sum(each.values()):.2f} ms for a stream-second ({parts}); {self.partials} partials"


def fake(settings: ServerSettings) -> Recognizer:
    """The recognizer of each server."""
    return Recognizer(TalkativeEncoder())  # type: ignore[arg-type]


def audio_s(url: str) -> float:
    """Audio that the server has received."""
    with open_url(url.replace("ws://", "http://").replace("/v1/stream", "/metrics"), timeout=60) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return sum(s.value for f in families if f.name == "xlsr_live_audio_seconds" for s in f.samples)


def cpu_s(pid: int, alone: bool) -> Counter[str]:
    """CPU time so far of a server's processes, by their part."""
    found: Counter[str] = Counter()
    for process in (top := psutil.Process(pid), *top.children(recursive=True)):
        try:
            name, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.Error:
            continue
        rest = "server" if alone else "rest of Ray"
        part = next((part for mark, part in PARTS.items() if name.startswith(mark) or f"/{mark} " in name), rest)
        found[part] += times.user + times.system
    return found


async def measure(pid: int, url: str, alone: bool, streams: int, seconds: float) -> Cost:
    """Stream to a server for a while."""
    clients, audio = EndlessClients(url, ms(PACKET_MS)), speech()
    tasks = []
    for number in range(streams):
        tasks.append(asyncio.create_task(clients.one(audio, number)))
        await asyncio.sleep(0.02)
    await asyncio.sleep(5)
    clients.counts.clear()
    cpu, received = cpu_s(pid, alone), await asyncio.to_thread(audio_s, url)
    await asyncio.sleep(seconds)
    taken, heard = cpu_s(pid, alone) - cpu, await asyncio.to_thread(audio_s, url) - received
    for task in tasks:
        if task.done():
            task.result()  # raise the error of a client that gave up
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return Cost(taken, heard, clients.counts[Partial])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("streams", 300), ("seconds", 20), ("replicas", 2), ("turns", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        settings = ServerSettings(port=0, max_sessions=2 * options.streams, replicas=options.serve, resume_grace_s=0)
        run = serve_replicas if options.serve > 1 else serve
        return run(settings, fake)
    servers: list[tuple[int, subprocess.Popen[str], str]] = []
    try:
        for replicas in (1, options.replicas):
            command = [sys.executable, "-m", "tests.load.cluster_cpu", "--serve", str(replicas)]
            command += ["--streams", str(options.streams)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
            servers.append((replicas, process, ready_url(process) or ""))
        for _ in range(options.turns):
            for replicas, process, url in servers:
                cost = asyncio.run(measure(process.pid, url, replicas == 1, options.streams, options.seconds))
                print(f"{replicas} x {options.streams} streams: {cost}", flush=True)
                time.sleep(2)
    finally:
        for _, process, _ in servers:
            process.send_signal(signal.SIGTERM)
            process.communicate()


if __name__ == "__main__":
    main()
