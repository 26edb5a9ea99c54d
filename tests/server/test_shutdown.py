"""Start and end of `serve`, in its own process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from xlsr_live.server.run import serve
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.errors import ConfigError
from xlsr_live.streaming.protocol.events import Error, Final, Partial, SessionEnded, SessionStarted, Warning, from_json
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.fake_recognizer import FakeRecognizer
from tests.support.paths import DIGITS, ROOT
from tests.support.wire import dial, listen, packets

SERVE = """
from tests.support.fake_recognizer import FakeRecognizer
from xlsr_live.server.run import serve
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.recognizer import Recognizer
serve(ServerSettings({settings}), lambda _: {recognizer})
"""
DIGITS_MODEL = f'Recognizer.load("{DIGITS.as_posix()}", device="cpu")'
STUCK = 'FakeRecognizer("stuck")'


@contextmanager
def serving(
    recognizer: str, settings: str = "port=0, max_sessions=8"
) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A server process, its ready line and its address."""
    command = [sys.executable, "-c", SERVE.format(settings=settings, recognizer=recognizer)]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=here)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        yield process, ready, ready.partition("ready: ")[2].partition(" ")[0]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM to catch")
def test_sigterm_finishes_open_utterances(clip: Callable[[str], NDArray[np.int16]]):
    async def scene(process: subprocess.Popen[str], url: str):
        async with dial(url) as websocket:
            for packet in packets(clip("george").tobytes()):
                await websocket.send(packet)
            async for message in websocket:  # the utterance is open: the clip ends before a pause would end it
                if isinstance(from_json(message), Partial):
                    break
            process.send_signal(signal.SIGTERM)
            return await listen(websocket), websocket.close_code

    with serving(DIGITS_MODEL) as (process, ready, url):
        assert "digits" in ready
        assert "cpu" in ready
        events, code = asyncio.run(scene(process, url))
        output, log = process.communicate(timeout=30)
    assert [event.text for event in events if isinstance(event, Final)] == ["ONE TWO NINE FOUR EIGHT ONE"]
    assert [event.code for event in events if isinstance(event, Warning)] == ["shutting_down"]
    assert not [event for event in events if isinstance(event, Error)]
    assert isinstance(events[-1], SessionEnded)
    assert code == 1001
    assert process.returncode == 0
    assert "Traceback" not in log
    assert "ONE" not in log + output


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM to catch")
def test_a_second_signal_does_not_wait():
    async def scene(process: subprocess.Popen[str], url: str):
        async with dial(url) as websocket:
            await websocket.send(bytes(3_200))
            async for message in websocket:
                event = from_json(message)
                if isinstance(event, SessionStarted):
                    process.send_signal(signal.SIGTERM)
                if isinstance(event, Warning):
                    process.send_signal(signal.SIGINT)
            return websocket.close_code

    with serving(STUCK, "port=0, max_sessions=8, grace_s=600") as (process, _, url):
        assert asyncio.run(scene(process, url)) == 1001
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [("", "without a token"), (", token='s3cret', wyoming_port=0, wyoming_open=True", "has no tokens")],
)
def test_an_open_server_warns_at_every_log_level(settings: str, message: str):
    with serving(STUCK, f"port=0, max_sessions=8, host='0.0.0.0', log_level='error'{settings}") as (process, _, _):
        process.terminate()
        _, log = process.communicate(timeout=30)
    assert "CRITICAL" in log
    assert message in log


def test_a_port_in_use_is_reported_before_the_model_is_loaded():
    def model(_: ServerSettings) -> Recognizer:
        pytest.fail("the model was loaded")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: .*in use"):
            serve(ServerSettings(port=port), model)


def test_nothing_listens_before_the_model_is_loaded():
    """A port check must not take a loading server for a ready one."""

    def model(settings: ServerSettings) -> Recognizer:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", settings.port))
        raise ConfigError("no such model")

    with pytest.raises(ConfigError, match="no such model"):
        serve(ServerSettings(port=0), model)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere two processes cannot bind one port")
def test_a_port_occupied_while_the_model_is_loading():
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

        def model(settings: ServerSettings) -> Any:
            other.bind(("127.0.0.1", settings.port))
            other.listen()
            return FakeRecognizer()

        with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1 port .*in use"):
            serve(ServerSettings(port=0, max_sessions=1), model)


def test_importing_the_server_does_not_import_torch():
    script = "import sys, xlsr_live.server.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0
