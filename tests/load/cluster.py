"""Kills and changes replicas of `xlsr-live serve --replicas` under load: `python -m tests.load.cluster --kills 10`.

In each round paced sessions begin; when all have text of an open utterance or have waited long enough, a replica gets
SIGKILL, and its sessions go on in another one. Then, with `--changes 1`, sessions run while the cluster scales up,
scales down and replaces all replicas (a rolling update). All finals are compared with those of the same audio without
any disturbance. The exit status is 1 if an utterance is lost or doubled, or a session ends. Needs the speech collection
(`tests/support/speech.py`) and Ray.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final as Constant
from typing import cast

import httpx
import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families
from xlsr_live.client.output.progress import progress
from xlsr_live.streaming.errors import XlsrLiveError
from xlsr_live.streaming.protocol.events import Final

from tests.load.kills import Speaker, compared, make_audio
from tests.load.program import campaign_options
from tests.load.server_process import ready_url, start_server

REPLICAS: Constant = 2
ROUND_S: Constant = 24.0  # of audio
PATIENCE_S: Constant = 240.0  # for replicas to start or stop
REPLICA: Constant = "ray::ServeReplica:xlsr-live"
LOG: Constant = "/replica_xlsr-live_server_"


class Cluster:
    """`xlsr-live serve --replicas` in a process of its own, observed from outside."""

    def __init__(self, process: subprocess.Popen[str], url: str, config: Path, token: str | None) -> None:
        self.process = process
        self.url = url  # of the websocket
        self.token = token
        self._config = config

    def request(self, method: str, path: str) -> httpx.Response:
        address = self.url.replace("ws://", "http://").replace("/v1/stream", path)
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx.request(method, address, headers=headers, timeout=30)

    def sessions(self) -> dict[str, float]:
        """Open sessions by replica."""
        answer = self.request("GET", "/metrics")
        answer.raise_for_status()
        families = text_string_to_metric_families(answer.text)
        found = {f.name: {s.labels["replica"]: s.value for s in f.samples} for f in families if f.type == "gauge"}
        return found["xlsr_live_sessions_open"]

    def replicas(self) -> dict[str, psutil.Process]:
        """The processes of the replicas, by their names: each has its own log open."""
        processes = [child for child in self._children() if _title(child).startswith(REPLICA)]
        return {
            Path(file.path).stem.rpartition("_")[2]: process
            for process in processes
            for file in process.open_files()
            if LOG in file.path
        }

    def kill(self, name: str) -> None:
        """SIGKILL for the replica."""
        self.replicas()[name].kill()

    def wait_for(self, count: int) -> None:
        """Wait until so many replicas report."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                if len(self.sessions()) == count:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
        raise XlsrLiveError(f"there were never {count} replicas")

    def deploy(self, **settings: object) -> None:
        """Change the settings of all replicas, as `xlsr-live cluster deploy` does."""
        self._config.write_text("".join(f"{name}: {value}\n" for name, value in settings.items()), encoding="utf-8")
        self.command("deploy", str(self._config))

    def command(self, *arguments: str) -> str:
        """Run `xlsr-live cluster`, for this cluster of those on the machine."""
        raylets = [title for child in self._children() if "--gcs-address=" in (title := _title(child))]
        address = raylets[0].partition("--gcs-address=")[2].split()[0]
        command = [sys.executable, "-m", "xlsr_live.client.cli", "cluster", *arguments, "--address", address]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise XlsrLiveError(done.stderr.strip())
        return done.stdout

    def _children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@contextmanager
def running_cluster(**settings: object) -> Generator[Cluster]:
    """A cluster with these settings for the length of the block. Raises `XlsrLiveError` if it fails."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # also for `deploy`
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "server.yaml"
        config.write_text("".join(f"{name}: {value}\n" for name, value in settings.items()), encoding="utf-8")
        process = start_server(["--config", str(config)])
        try:
            if (url := ready_url(process)) is None:
                raise XlsrLiveError("the cluster did not start")
            yield Cluster(process, url, config, cast(str | None, settings.get("token")))
            process.terminate()
            if process.wait(PATIENCE_S):
                raise XlsrLiveError(f"the cluster ended with status {process.returncode}")
        finally:
            process.terminate()
            process.communicate()


Disturb = Callable[[Sequence[Speaker]], Awaitable[float | None]]  # returns the time of a loss, if it made one


@dataclass
class Disturbances:
    """What all rounds found."""

    finals: Counter[str] = field(default_factory=Counter[str])
    silences: list[float] = field(default_factory=list[float])
    moves: int = 0
    ended: list[str] = field(default_factory=list[str])  # sessions: why
    differences: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # unbroken and disturbed finals

    async def run(self, url: str, count: int, seconds: float, rng: Random, disturb: Disturb) -> None:
        """Run sessions, disturb them, and compare their finals with those of the same audio without."""
        speakers = [Speaker(make_audio(rng, seconds)) for _ in range(count)]
        unbroken = [Speaker(one.audio) for one in speakers]
        for one in unbroken:
            await one.run([url], 0.0)
        running = [asyncio.create_task(one.run([url], 1.0)) for one in speakers]
        lost_at = await disturb(speakers)
        for outcome in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(outcome, BaseException):
                self.ended.append(str(outcome))
        for one, reference in zip(speakers, unbroken, strict=True):
            self.finals += (found := compared(one.finals, reference.finals))
            if found["other text"] or found["lost"] or found["doubled"]:
                self.differences.append((listed_finals(reference.finals), listed_finals(one.finals)))
            self.moves += one.moved
            if lost_at is not None and one.moved and (silence := one.silence(lost_at)) is not None:
                self.silences.append(silence)

    def report(self, what: str) -> None:
        print(f"{what}: {self.moves} moves, {len(self.ended)} sessions ended {'; '.join(self.ended)}")
        if self.silences:
            p50, p95 = np.percentile(self.silences, [50, 95])
            longest = max(self.silences)
            print(f"  time without text of moved sessions: p50 {p50:.2f} s, p95 {p95:.2f} s, longest {longest:.2f} s")
        print("  " + ", ".join(f"{count} {name}" for name, count in self.finals.items()), flush=True)
        for unbroken, disturbed in self.differences:
            print(f"  unbroken:  {unbroken}\n  disturbed: {disturbed}", flush=True)

    @property
    def harmless(self) -> bool:
        return not self.ended and not any(self.finals[name] for name in ("lost", "doubled", "misnumbered"))


def listed_finals(finals: Sequence[Final]) -> str:
    return "; ".join(f"{final.start:.2f}-{final.end:.2f} {final.text}" for final in finals)


def kill(cluster: Cluster, rng: Random) -> Disturb:
    """SIGKILL for one replica, in the middle of utterances."""

    async def disturb(speakers: Sequence[Speaker]) -> float:
        await asyncio.sleep(rng.uniform(5, 15))
        for _ in range(40):
            if all(one.speaking for one in speakers):
                break
            await asyncio.sleep(0.1)
        victim = rng.choice(sorted(await asyncio.to_thread(cluster.sessions)))
        killed = asyncio.get_running_loop().time()
        cluster.kill(victim)
        return killed

    return disturb


def change(cluster: Cluster, **settings: object) -> Disturb:
    """Other settings for all replicas."""

    async def disturb(speakers: Sequence[Speaker]) -> None:
        await asyncio.sleep(5)
        await asyncio.to_thread(cluster.deploy, **settings)

    return disturb


def run_kills(cluster: Cluster, kills: int, sessions: int, rng: Random) -> bool:
    found = Disturbances()
    with progress(kills) as (advance, _):
        for number in range(1, kills + 1):
            cluster.wait_for(REPLICAS)
            asyncio.run(found.run(cluster.url, sessions, ROUND_S, rng, kill(cluster, rng)))
            advance()
            found.report(f"{number} kills, {sessions} sessions each")
    return found.harmless


def run_changes(cluster: Cluster, settings: dict[str, object], sessions: int, seconds: int, rng: Random) -> bool:
    harmless = True
    cluster.wait_for(REPLICAS)
    for name, replicas, grace_s in (("scale up", 3, 30), ("scale down", 2, 30), ("rolling update", 2, 31)):
        found = Disturbances()
        new = settings | {"replicas": replicas, "grace_s": grace_s}
        asyncio.run(found.run(cluster.url, sessions, seconds, rng, change(cluster, **new)))
        cluster.wait_for(replicas)
        found.report(f"{name}, {sessions} sessions of {seconds} s")
        harmless = harmless and found.harmless
    return harmless


def main() -> int:
    options = campaign_options(__doc__, kills=10, sessions=4, changes=0, seconds=90)
    rng = Random(options.seed)
    settings: dict[str, object] = {"model": options.model, "port": 0, "max_sessions": 64, "log_level": "error"}
    with running_cluster(**settings, replicas=REPLICAS) as cluster:
        harmless = run_kills(cluster, options.kills, options.sessions, rng) if options.kills else True
        if options.changes:
            settings["port"] = int(cluster.url.split(":")[2].split("/")[0])
            harmless &= run_changes(cluster, settings, options.sessions, options.seconds, rng)
    return 0 if harmless else 1


if __name__ == "__main__":
    raise SystemExit(main())
