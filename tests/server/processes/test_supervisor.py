"""The supervisor: errors at the start are its own, and its processes end with it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from xlsr_live.server.processes import children
from xlsr_live.server.processes.children import SPAWN, Child
from xlsr_live.server.run import serve
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.errors import ConfigError, EngineError, ModelError
from xlsr_live.streaming.protocol.events import SessionEnded

from tests.load.server_process import ready_url
from tests.support.paths import ROOT
from tests.support.several_fronts import SETTINGS, fail_to_load, load_fake, load_for_nothing
from tests.support.wire import END, settles, talk


def test_a_model_that_does_not_load_is_the_error_of_the_server():
    with pytest.raises(ModelError, match="no such model"):
        serve(ServerSettings(**SETTINGS), fail_to_load)


def test_an_engine_process_that_ends_while_it_loads_is_an_error():
    with pytest.raises(EngineError, match="ended before its model was loaded"):
        serve(ServerSettings(**SETTINGS), load_for_nothing)


def test_a_front_that_cannot_start_is_the_error_of_the_server(tmp_path: Path):
    with pytest.raises(ConfigError, match="tls_cert"):
        serve(ServerSettings(**SETTINGS, tls_cert=str(tmp_path / "a"), tls_key=str(tmp_path / "b")), load_fake)


def test_restarts_wait_longer_each_time_until_a_process_is_stable(monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    monkeypatch.setattr(children.time, "monotonic", lambda: now)
    child = Child("a process", print, tuple)
    monkeypatch.setattr(children.SPAWN, "Process", lambda **_: subprocess_like())
    delays: list[float] = []
    for _ in range(10):
        child.start()
        child.ended(now)
        delays.append((child.restart_at or 0.0) - now)
    child.start()
    child.ready = True
    now += children.STABLE_S + 1
    child.ended(now)
    assert delays == sorted(delays)
    assert (delays[0], delays[-1]) == (children.FIRST_DELAY_S, children.MAX_DELAY_S)
    assert (child.restart_at or 0.0) - now == pytest.approx(children.FIRST_DELAY_S)


class subprocess_like:
    exitcode = 1

    def start(self) -> None: ...
    def join(self) -> None: ...


def test_processes_end_after_a_killed_supervisor():
    command = [sys.executable, "-m", "tests.support.several_fronts"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        url = ready_url(process)
        children_ = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children_) >= 3
        received = asyncio.run(talk(url, [bytes(32_000), END]))
        assert isinstance(received.events[-1], SessionEnded)
    finally:
        process.kill()
        process.communicate()
    alive = lambda: [pid for pid in children_ if Path(f"/proc/{pid}").exists() and not _zombie(pid)]  # noqa: E731
    assert settles(alive, [], within_s=40)


def _zombie(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_fronts_need_a_system_with_unix_sockets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("xlsr_live.server.settings.os.name", "nt")
    with pytest.raises(ConfigError, match="fronts"):
        ServerSettings(fronts=2)


def test_a_signal_during_the_start_of_a_process_is_not_lost_and_does_not_end_it(monkeypatch: pytest.MonkeyPatch):
    received: list[int] = []
    tracker: Any = resource_tracker
    tracker._resource_tracker._stop()  # as at the first start
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    child = Child("a process", tell, tuple)
    start = SPAWN.Process.start

    def interrupted(process: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        start(process)
        os.kill(process.pid, signal.SIGTERM)

    monkeypatch.setattr(SPAWN.Process, "start", interrupted)
    try:
        child.start()
        assert received == [signal.SIGTERM]
        assert settles(child.messages, ["here"], within_s=60)
    finally:
        signal.signal(signal.SIGTERM, before)
        child.kill()
        child.forget()


def tell(pipe: Connection) -> None:
    """What a process runs: it says that it is here."""
    pipe.send("here")
