"""Proxies of the environment: unused for this machine, named in errors, and used for other addresses."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from xlsr_live.client.captions.delivery import Undelivered
from xlsr_live.client.captions.obs import ObsClient
from xlsr_live.client.captions.youtube import YouTubeClient
from xlsr_live.client.cli import run
from xlsr_live.client.errors import ConnectionProblem
from xlsr_live.client.proxies import is_loopback, open_url, proxy_for
from xlsr_live.client.remote.websocket import connect
from xlsr_live.server.run import running_server
from xlsr_live.streaming.captions.cues import Cue
from xlsr_live.streaming.protocol.events import Event, Final
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.paths import CLIPS

ELSEWHERE = "ws://speech.invalid/v1/stream"
VARIABLES = ("http", "https", "all", "ws", "wss", "socks", "no")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # without listening
        yield bound.getsockname()[1]


class TunnelProxy:
    """An HTTP proxy whose CONNECT leads to one port of this machine, for any address."""

    def __init__(self, port: int, answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> None:
        self.port, self.answer = port, answer
        self.requests: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        peer, _ = self.listener.accept()
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += peer.recv(1)
        self.requests.append(head)
        peer.sendall(self.answer)
        if b" 200 " not in self.answer:
            peer.close()
            return
        target = socket.create_connection(("127.0.0.1", self.port))
        back = threading.Thread(target=self.copy, args=(target, peer))
        back.start()
        self.copy(peer, target)
        back.join()
        peer.close()
        target.close()

    @staticmethod
    def copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        self.thread.join()
        self.listener.close()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("pc.localhost", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("0.0.0.0", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost.example.org", False),
        ("128.0.0.1", False),
        ("192.168.0.1", False),
    ],
)
def test_addresses_of_this_machine(host: str, loopback: bool):
    assert is_loopback(host) == loopback


@pytest.mark.parametrize("scheme", ["ws", "wss", "http", "https"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_this_machine_is_reached_directly(scheme: str, host: str, monkeypatch: pytest.MonkeyPatch):
    for name in VARIABLES[:-1]:
        monkeypatch.setenv(f"{name}_proxy", "http://proxy.example:3128")
    assert proxy_for(f"{scheme}://{host}:8765/v1/stream") is None


@pytest.mark.parametrize(
    ("url", "variables", "proxy"),
    [
        ("ws://a.example", {"http_proxy": "http://p:1", "https_proxy": "http://p:2"}, "http://p:2"),
        ("ws://a.example", {"http_proxy": "http://p:1"}, "http://p:1"),
        ("wss://a.example", {"http_proxy": "http://p:1"}, None),
        ("wss://a.example", {"all_proxy": "socks5://p:1"}, "socks5://p:1"),
        ("ws://a.example", {"all_proxy": "socks5://p:1", "ws_proxy": "http://p:2"}, "http://p:2"),
        ("http://a.example", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("http://a.example", {"http_proxy": "p:3128"}, "http://p:3128"),
        ("ws://a.example", {"http_proxy": "http://p:1", "no_proxy": "example"}, None),
    ],
)
def test_the_proxy_of_an_address(
    url: str, variables: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = proxy_for(url)
    assert (found.url if found else None) == proxy


def test_a_stream_to_this_machine_ignores_proxies(
    recognizer: Recognizer, closed_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name in ("http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")
    with running_server(recognizer) as server:
        assert run(["stream", str(CLIPS / "george.flac"), "--url", server.url, "--pace", "0", "-f", "text"]) == 0
        address = server.url.replace("ws://", "http://").replace("/v1/stream", "/metrics")
        with open_url(address, timeout=60) as answer:
            assert answer.status == 200
    assert capsys.readouterr().out == "One two nine four eight one\n"


def test_a_stream_through_a_proxy(
    recognizer: Recognizer, brief: Callable[[str], np.ndarray], monkeypatch: pytest.MonkeyPatch
):
    async def finals() -> list[Event]:
        async with connect(ELSEWHERE) as stream:
            await stream.send(brief("george").tobytes())
            await stream.end()
            return [event async for event in stream if isinstance(event, Final)]

    with running_server(recognizer) as server:
        proxy = TunnelProxy(server.port)
        monkeypatch.setenv("http_proxy", proxy.url)
        assert len(asyncio.run(finals())) == 1
        proxy.close()
    assert proxy.requests[0].startswith(b"CONNECT speech.invalid:80 HTTP/1.1\r\n")


def test_a_proxy_that_does_not_answer_is_named(
    closed_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{closed_port}")
    assert run(["stream", str(CLIPS / "george.flac"), "--url", ELSEWHERE]) == 2
    error = capsys.readouterr().err
    assert f"through the proxy http://127.0.0.1:{closed_port} (http_proxy)" in error
    assert "secret" not in error
    assert "xlsr-live serve" not in error


def test_a_proxy_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    proxy = TunnelProxy(0, b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    assert run(["stream", str(CLIPS / "george.flac"), "--url", ELSEWHERE]) == 2
    proxy.close()
    error = capsys.readouterr().err
    assert f"the proxy {proxy.url} (all_proxy) refuses" in error
    assert "HTTP 407" in error


@pytest.mark.parametrize("value", ["ftp://me:secret@proxy.example", "http://proxy.example/path?secret"])
def test_an_address_that_is_no_proxy_is_named(
    value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("http_proxy", value)
    assert run(["stream", str(CLIPS / "george.flac"), "--url", ELSEWHERE]) == 2
    error = capsys.readouterr().err
    assert "proxy.example (http_proxy) cannot be used" in error
    assert "secret" not in error


def test_a_socks_proxy_is_used_or_named(closed_port: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{closed_port}")

    async def open_session() -> None:
        async with connect(ELSEWHERE):
            raise AssertionError("no connection was expected")

    # Without python-socks the message names the package; with it, the proxy that does not answer.
    with pytest.raises(ConnectionProblem, match=rf"the proxy socks5://127.0.0.1:{closed_port} \(all_proxy\)"):
        asyncio.run(open_session())


CUE = Cue(0.0, 1.0, ("ONE",))


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_captions_name_the_proxy(scheme: str, closed_port: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://me:secret@127.0.0.1:{closed_port}")
    proxy = rf"the proxy {scheme}://127.0.0.1:{closed_port} \(all_proxy\)"
    youtube = YouTubeClient("http://upload.invalid/cc?cid=key", lambda: 0.0)
    for send in (youtube.send, ObsClient("pc.invalid", 1, "").send):
        with pytest.raises(Undelivered, match=proxy) as refused:
            send(CUE)
        assert "secret" not in str(refused.value)


def test_captions_for_this_machine_ignore_proxies(closed_port: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:3128")
    with pytest.raises(Undelivered, match=r"^nothing answers: is OBS running"):
        ObsClient("127.0.0.1", closed_port, "").send(CUE)
    with pytest.raises(Undelivered, match=r"^Connection refused$"):
        YouTubeClient(f"http://127.0.0.1:{closed_port}/cc?cid=key", lambda: 0.0).send(CUE)


def test_the_address_of_a_file_is_no_proxy(tmp_path: Path):
    assert proxy_for(str(tmp_path)) is None
