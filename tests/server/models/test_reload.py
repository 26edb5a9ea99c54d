"""Changing the model of a running server: permission, open and new sessions, failures."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event as Signal
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from xlsr_live.server.models.models import Models
from xlsr_live.server.operations.reload import RELOADABLE, Reloader
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.sessions.admission import Admission
from xlsr_live.server.sessions.registry import SessionRegistry
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.errors import ConfigError, ModelError, XlsrLiveError
from xlsr_live.streaming.protocol.events import Final, SessionStarted
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.fake_recognizer import FakeRecognizer
from tests.support.paths import DIGITS, ROOT
from tests.support.serving import get, metrics
from tests.support.wire import END, Conversation, dial, listen, packets, settles, talk

Clip = Callable[[str], NDArray[np.int16]]
ADMIN = {"Authorization": "Bearer of admin"}
SAID = "ONE TWO NINE FOUR EIGHT ONE"


class RenamedEncoder:
    """The digits model under another name; `act` changes the rows of every full pass."""

    def __init__(self, encoder: Any, name: str, act: Callable[[Any], Any] = lambda rows: rows) -> None:
        self._encoder = encoder
        self._act = act
        self.info = msgspec.structs.replace(encoder.info, name=name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode(self, batch: Any, recalls: Any, **options: Any) -> Any:
        return self._act(self._encoder.encode(batch, recalls, **options))


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.toml"
    file.write_text('[admin]\ntoken = "of admin"\nadmin = true\n[page]\ntoken = "of page"\n')
    return file


@contextmanager
def serving(
    recognizer: Recognizer, tokens: Path, load: Callable[[ServerSettings], Recognizer], **now: Any
) -> Iterator[RunningServer]:
    """A server whose settings have the values of `now` at the time of a reload."""
    settings = ServerSettings(tokens_file=str(tokens), max_sessions=4)
    current: list[ServerSettings] = [settings]

    def reread() -> ServerSettings:
        return current.pop() if current else msgspec.structs.replace(settings, **now)

    with running_server(recognizer, settings, load=load, reread=reread) as server:
        yield server


def reload(server: RunningServer, **headers: str) -> httpx.Response:
    return httpx.post(f"http://127.0.0.1:{server.port}/v1/reload", headers=headers, timeout=60)


def model_of(result: Conversation) -> str:
    assert isinstance(result.events[0], SessionStarted)
    return result.events[0].model


def test_open_sessions_keep_their_model_and_new_ones_get_the_new_one(recognizer: Recognizer, tokens: Path, clip: Clip):
    made: list[Recognizer] = []

    def load(settings: ServerSettings) -> Recognizer:
        made.append(Recognizer(RenamedEncoder(recognizer.encoder, settings.model), recognizer.assets))  # type: ignore[arg-type]
        return made[-1]

    sent = packets(clip("george").tobytes())

    async def scene(server: RunningServer) -> tuple[list[Any], list[Conversation]]:
        async with dial(server.url, additional_headers=ADMIN) as websocket:
            for packet in sent[: len(sent) // 2]:
                await websocket.send(packet)
            answers = [await asyncio.to_thread(reload, server, **ADMIN) for _ in range(2)]
            assert [answer.status_code for answer in answers] == [200, 200]
            assert (await asyncio.to_thread(get, server, "/readyz")).json()["models"] == 2  # the one between is closed
            other = await talk(server.url, [*sent, END], additional_headers=ADMIN)
            for packet in sent[len(sent) // 2 :]:
                await websocket.send(packet)
            await websocket.send(END)
            return [answer.json() for answer in answers], [Conversation(await listen(websocket), None, None), other]

    with serving(recognizer, tokens, load, model="another", max_sessions=7, port=1, ticket_s=5.0) as server:
        unreloaded = asyncio.run(talk(server.url, [*sent, END], additional_headers=ADMIN))
        answers, (old, new) = asyncio.run(scene(server))
        assert settles(lambda: get(server, "/readyz").json()["models"], 1)
        assert get(server, "/readyz").json()["limit"] == 7
        assert get(server, "/v1/models", **ADMIN).json()["data"][0]["id"] == "another"
        numbers = metrics(server, **ADMIN)
        assert numbers['xlsr_live_reloads_total{"result": "done"}'] == 2
        assert numbers["xlsr_live_models_loaded"] == 1
        assert [one.engine.alive for one in made] == [False, True]
    assert answers[0] == {
        "model": "another",
        "device": "cpu",
        "dtype": "float32",
        "max_sessions": 7,
        "needs_restart": ["port", "ticket_s"],
    }
    finals = [[event for event in one.events if isinstance(event, Final)] for one in (unreloaded, old, new)]
    assert finals[0] == finals[1] == finals[2]
    assert unreloaded.finals == [SAID]
    assert [model_of(one) for one in (unreloaded, old, new)] == [str(DIGITS), str(DIGITS), "another"]
    assert not made[-1].engine.alive
    assert recognizer.engine.alive


def broken(recognizer: Recognizer, act: Callable[[Any], Any]) -> Callable[[ServerSettings], Recognizer]:
    return lambda _: Recognizer(RenamedEncoder(recognizer.encoder, "broken", act), recognizer.assets)  # type: ignore[arg-type]


def test_a_failed_reload_changes_nothing(recognizer: Recognizer, tokens: Path, caplog: pytest.LogCaptureFixture):
    def missing(_: ServerSettings) -> Recognizer:
        raise ModelError("there is no model 'nowhere'")

    def out_of_memory(_: ServerSettings) -> Recognizer:
        raise MemoryError("out of memory")

    failures: dict[str, Callable[[ServerSettings], Recognizer]] = {
        "there is no model 'nowhere'": missing,
        "MemoryError: out of memory": out_of_memory,
        "not finite": broken(recognizer, lambda rows: [row * np.nan for row in rows]),
        "(48, ": broken(recognizer, lambda rows: [row[1:] for row in rows]),
    }
    for reason, load in failures.items():
        caplog.clear()
        with serving(recognizer, tokens, load, model="x", max_sessions=9) as server:
            answer = reload(server, **ADMIN)
            assert (answer.status_code, answer.json()["code"]) == (500, "reload_failed")
            assert reason in answer.json()["message"]
            state = get(server, "/readyz").json()
            assert (state["ready"], state["models"], state["reloading"], state["limit"]) == (True, 1, False, 4)
            assert metrics(server, **ADMIN)['xlsr_live_reloads_total{"result": "failed"}'] == 1
            assert model_of(asyncio.run(talk(server.url, [bytes(3_200), END], additional_headers=ADMIN))) == str(DIGITS)
        (line,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert line.exc_info is None
        assert reason in line.getMessage()


def test_a_model_that_does_not_answer_is_given_up(recognizer: Recognizer, tokens: Path):
    freed = Signal()
    settings = ServerSettings(tokens_file=str(tokens), stall_s=0.3)
    load = broken(recognizer, lambda rows: freed.wait(60) and rows)
    with running_server(recognizer, settings, load=load) as server:
        assert "does not answer" in reload(server, **ADMIN).json()["message"]
        assert get(server, "/readyz").json()["reloading"] is False
    freed.set()


def test_only_an_admin_token_may_reload(recognizer: Recognizer, tokens: Path):
    def load(_: ServerSettings) -> Recognizer:
        pytest.fail("loaded for nobody")

    with serving(recognizer, tokens, load) as server:
        assert [(reload(server, **headers).status_code) for headers in ({}, {"Authorization": "Bearer of page"})] == [
            401,
            403,
        ]
        assert get(server, "/v1/reload", **ADMIN).status_code == 405
    for settings in (ServerSettings(), ServerSettings(token="of admin")):  # no admin, no reload
        with running_server(recognizer, settings, load=load) as server:
            answer = reload(server, **ADMIN)
            assert (answer.status_code, answer.json()["code"]) == (403, "not_admin")


def test_one_reload_at_a_time(recognizer: Recognizer, tokens: Path):
    loading, go = Signal(), Signal()

    def load(_: ServerSettings) -> Recognizer:
        loading.set()
        assert go.wait(60)
        raise ModelError("enough")

    async def scene(server: RunningServer) -> None:
        first = asyncio.create_task(asyncio.to_thread(reload, server, **ADMIN))
        assert await asyncio.to_thread(loading.wait, 60)
        assert (await asyncio.to_thread(get, server, "/readyz")).json()["reloading"] is True
        second = await asyncio.to_thread(reload, server, **ADMIN)
        assert (second.status_code, second.json()["code"], second.headers["Retry-After"]) == (409, "reloading", "10")
        go.set()
        assert (await first).status_code == 500

    with serving(recognizer, tokens, load) as server:
        asyncio.run(scene(server))


def test_a_reload_reads_the_tokens_and_a_mistake_changes_nothing(recognizer: Recognizer, tokens: Path):
    def load(_: ServerSettings) -> Recognizer:
        return Recognizer(recognizer.encoder, recognizer.assets)

    page = {"Authorization": "Bearer of page"}
    with serving(recognizer, tokens, load) as server:
        text = tokens.read_text()
        tokens.write_text("")
        assert "has no tokens" in reload(server, **ADMIN).json()["message"]
        assert get(server, "/v1/models", **page).status_code == 200
        tokens.write_text(text.partition("[page]")[0])
        assert reload(server, **ADMIN).status_code == 200
        assert get(server, "/v1/models", **page).status_code == 401
        assert get(server, "/v1/models", **ADMIN).status_code == 200


SERVE = """
import os, signal, sys
from tests.support.fake_recognizer import FakeRecognizer, Info
from xlsr_live.streaming.errors import ConfigError
from xlsr_live.server.models import candidate
from xlsr_live.server import run
from xlsr_live.server.configuration import configure
from pathlib import Path
candidate.check = lambda recognizer: None
read = lambda: configure(Path(sys.argv[1])).settings
def load(settings):
    if settings.model == "early":
        Path(sys.argv[1]).write_text('port = 0\\nmodel = "late"\\nmax_sessions = 3\\n')
        os.kill(os.getpid(), signal.SIGHUP)
    if settings.model == "bad":
        raise ConfigError("no such model")
    return FakeRecognizer(info=Info(settings.model))
run.serve(read(), load, read)
"""


@contextmanager
def started(model: str, file: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    file.write_text(f'port = 0\nmodel = "{model}"\nmax_sessions = 3\n')
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    here = {**os.environ, "PYTHONPATH": path, **environment}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(file)],
        stdin=subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        text=True,
        env=here,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP")
def test_sighup_reads_the_file_again(tmp_path: Path):
    file = tmp_path / "server.toml"
    with started("first", file) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "model first" in process.stdout.readline()
        for model, line_part in (("second", "reloaded model=second"), ("bad", "as before: no such model")):
            file.write_text(f'port = 0\nmodel = "{model}"\nmax_sessions = 5\n')
            process.send_signal(signal.SIGHUP)
            assert line_part in next(line for line in process.stderr if "reload" in line)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert "Traceback" not in process.stderr.read()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP")
def test_sighup_during_the_first_load_takes_effect_when_the_server_is_ready(tmp_path: Path):
    """And the service manager gets READY."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(30)
        with started("early", tmp_path / "server.toml", NOTIFY_SOCKET=address) as process:
            assert manager.recv(100) == b"READY=1"
            assert process.stderr is not None
            assert "reloaded model=late" in next(line for line in process.stderr if "reload" in line)


@pytest.mark.parametrize("how", ["request", "reload"])  # as SIGHUP and POST /v1/reload do
def test_a_request_during_a_reload_that_fails_leads_to_another(how: str):
    reads: list[int] = []

    def reread() -> ServerSettings:
        reads.append(len(reads))
        if reads[-1] == 1:  # 0 is the start of the server
            reloader.request()
        if reads[-1]:
            raise ConfigError("a mistake in the file")
        return ServerSettings()

    async def scene() -> None:
        with suppress(XlsrLiveError):
            await reloader.reload() if how == "reload" else reloader.request()
        for _ in range(9):
            await asyncio.sleep(0)

    models = Models(FakeRecognizer(), 60, borrowed=True)  # type: ignore[arg-type]
    admission = Admission(models, ServerSettings(), SessionRegistry(9))
    reloader = Reloader(admission, lambda _: pytest.fail("loaded"), reread)
    asyncio.run(scene())
    assert reads == [0, 1, 2]


def test_reloadable_names_are_settings():
    assert set(RELOADABLE) <= set(ServerSettings.__struct_fields__)


def test_a_stopping_server_closes_the_model_that_it_loaded(recognizer: Recognizer, tokens: Path):
    made: list[Recognizer] = []
    loading, go = Signal(), Signal()

    def load(_: ServerSettings) -> Recognizer:
        loading.set()
        assert go.wait(60)
        made.append(Recognizer(recognizer.encoder, recognizer.assets))
        return made[-1]

    async def scene(server: RunningServer) -> httpx.Response:
        answer = asyncio.create_task(asyncio.to_thread(reload, server, **ADMIN))
        assert await asyncio.to_thread(loading.wait, 60)
        server.loop.call_soon_threadsafe(setattr, server.sessions, "draining", True)
        go.set()
        return await answer

    with serving(recognizer, tokens, load) as server:
        assert "is stopping" in asyncio.run(scene(server)).json()["message"]
    assert [one.engine.alive for one in made] == [False]
