"""Captions to OBS and YouTube: a real obs-websocket 5 server, a real HTTP server, and both with failures."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import click
import pytest
from websockets.sync.server import Server, ServerConnection, serve
from xlsr_live.client.captions.delivery import Delivery, Undelivered
from xlsr_live.client.captions.obs import LINE_CHARS, PASSWORD_VARIABLE, ObsClient
from xlsr_live.client.captions.targets import caption_output
from xlsr_live.client.captions.youtube import URL_VARIABLE, YouTubeClient
from xlsr_live.streaming.captions.cues import Cue
from xlsr_live.streaming.errors import ConfigError
from xlsr_live.streaming.protocol.events import Final, SessionStarted, Word

from tests.support.wire import settles

PASSWORD = "supersecretpassword"
SALT, CHALLENGE = "lM1GncleQOaCu9lT1yeUZhFYnqhsLLP1G5lAGo3ixaI=", "+IxH4CnCiqpX1rM9scsNynZzbOe4KhDeYcTNS3PDaeY="
ONE, TWO = Cue(1.5, 3.0, ("ONE TWO", "THREE")), Cue(4.0, 5.0, ("FOUR",))


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may need longer than people wait."""
    for module in ("obs", "youtube"):
        monkeypatch.setattr(f"xlsr_live.client.captions.{module}.TIMEOUT_S", 60.0)
    monkeypatch.setitem(Delivery.__init__.__kwdefaults__, "close_s", 60.0)


class FakeObs:
    """The protocol of OBS 30: hello, identify with the answer to a challenge, requests."""

    def __init__(self) -> None:
        self.captions: list[str] = []
        self.refusals = 0  # requests to refuse because the stream has not started
        self.drops = 0  # connections to break instead of an answer
        self.connections = 0
        self.server: Server = serve(self.handle, "127.0.0.1", 0)
        self.port: int = self.server.socket.getsockname()[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def handle(self, connection: ServerConnection) -> None:
        def send(op: int, data: object) -> None:
            connection.send(json.dumps({"op": op, "d": data}))

        self.connections += 1
        send(
            0,
            {"obsWebSocketVersion": "5.5.2", "rpcVersion": 1, "authentication": {"salt": SALT, "challenge": CHALLENGE}},
        )
        identify = json.loads(connection.recv())
        secret = base64.b64encode(hashlib.sha256((PASSWORD + SALT).encode()).digest())
        expected = base64.b64encode(hashlib.sha256(secret + CHALLENGE.encode()).digest()).decode()
        if identify["op"] != 1 or identify["d"].get("authentication") != expected:
            connection.close(4009, "Authentication failed.")
            return
        assert identify["d"]["rpcVersion"] == 1
        send(2, {"negotiatedRpcVersion": 1})
        for message in connection:
            request = json.loads(message)
            assert request["op"] == 6
            assert request["d"]["requestType"] == "SendStreamCaption"
            if self.drops:
                self.drops -= 1
                connection.close(1011)
                return
            refused, self.refusals = self.refusals > 0, max(0, self.refusals - 1)
            status = {"result": False, "code": 501} if refused else {"result": True, "code": 100}
            if not refused:  # before the answer, after which the test looks
                self.captions.append(request["d"]["requestData"]["captionText"])
            send(5, {"eventType": "Anything", "eventIntent": 1})  # events may come in between
            send(
                7, {"requestType": "SendStreamCaption", "requestId": request["d"]["requestId"], "requestStatus": status}
            )


@pytest.fixture
def obs() -> Iterator[FakeObs]:
    fake = FakeObs()
    yield fake
    fake.server.shutdown()


def test_the_handshake_with_a_password_and_captions(obs: FakeObs):
    there = ObsClient("127.0.0.1", obs.port, PASSWORD)
    there.send(ONE)
    there.send(TWO)
    there.close()
    assert obs.captions == ["ONE TWO\nTHREE", "FOUR"]
    assert obs.connections == 1


@pytest.mark.parametrize(("password", "why"), [("", "needs its password"), ("wrong", "refuses the password")])
def test_a_password_that_is_wrong_or_missing(obs: FakeObs, password: str, why: str):
    with pytest.raises(Undelivered, match=f"{why}.*{PASSWORD_VARIABLE}"):
        ObsClient("127.0.0.1", obs.port, password).send(ONE)


def test_the_client_reconnects_and_reports_a_stream_that_has_not_started(obs: FakeObs):
    there = ObsClient("127.0.0.1", obs.port, PASSWORD)
    obs.drops, obs.refusals = 1, 1
    with pytest.raises(Undelivered, match="closed"):
        there.send(ONE)
    with pytest.raises(Undelivered, match="OBS is not streaming"):
        there.send(ONE)
    there.send(ONE)
    there.close()
    assert (obs.captions, obs.connections) == (["ONE TWO\nTHREE"], 2)


def final(text: str) -> Final:
    words = tuple(Word(word, n * 0.5, n * 0.5 + 0.4, 0.9) for n, word in enumerate(text.split()))
    return Final(utterance=0, text=text, words=words, start=0.0, end=words[-1].end, confidence=0.9)


def test_obs_gets_each_line_as_it_grows(
    obs: FakeObs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    with caplog.at_level(logging.INFO), caption_output(f"obs://127.0.0.1:{obs.port}", early=False) as output:
        output.begin("microphone")
        output.show(SessionStarted(session="s", model="digits", mode="cached"))
        output.show(final("SEVENTEEN " * 5))
    (caption,) = obs.captions
    assert caption.split() == ["SEVENTEEN"] * 5
    assert max(map(len, caption.split("\n"))) <= LINE_CHARS
    assert PASSWORD not in caplog.text + "".join(capsys.readouterr())


class FakeYouTube(ThreadingHTTPServer):
    def __init__(self) -> None:
        self.posts: list[tuple[str, str]] = []
        self.answers: list[int] = []  # statuses to give first
        super().__init__(("127.0.0.1", 0), Post)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/closedcaption?cid=secret-key"


class Post(BaseHTTPRequestHandler):
    server: FakeYouTube

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.posts.append((self.path, body))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def youtube() -> Iterator[FakeYouTube]:
    server = FakeYouTube()
    yield server
    server.shutdown()
    server.server_close()


def test_posts_are_numbered_and_timed_and_a_retry_keeps_its_number(youtube: FakeYouTube):
    there = YouTubeClient(youtube.url, lambda: 1_379_032_811.0)
    youtube.answers = [500]
    with pytest.raises(Undelivered, match="HTTP 500: it cannot take captions now") as refused:
        there.send(ONE)
    there.send(ONE)
    there.send(TWO)
    path = "/closedcaption?cid=secret-key&seq="
    first = "2013-09-13T00:40:12.500\nONE TWO<br>THREE\n"
    assert youtube.posts == [(f"{path}1", first), (f"{path}1", first), (f"{path}2", "2013-09-13T00:40:15.000\nFOUR\n")]
    assert "secret-key" not in str(refused.value)


def test_a_refusal_by_youtube_is_reported_without_the_key(youtube: FakeYouTube):
    youtube.answers = [403]
    with pytest.raises(Undelivered, match=f"HTTP 403: .*{URL_VARIABLE}"):
        YouTubeClient(youtube.url, lambda: 0.0).send(ONE)
    with pytest.raises(ConfigError, match=f"{URL_VARIABLE} is not an address") as refused:
        YouTubeClient("secret-key", lambda: 0.0)
    assert "secret" not in str(refused.value)


def test_youtube_gets_each_line_as_it_grows(youtube: FakeYouTube, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(URL_VARIABLE, youtube.url)
    monkeypatch.setattr("time.time", lambda: 1_700_000_100.0)  # 22:15:00
    with caption_output("youtube", early=False, case="sentence") as output:
        output.head_start(30.0)  # recorded while the model loaded
        output.show(SessionStarted(session="s", model="digits", mode="cached"))
        output.show(final("ONE TWO"))
    ((path, body),) = youtube.posts
    assert path.endswith("&seq=1")
    assert re.fullmatch(r"2023-11-14T22:14:3\d\.\d{3}\nOne two\n", body)


def test_a_failure_is_reported_once_retried_and_reported_again_when_it_ends(capsys: pytest.CaptureFixture[str]):
    sent: list[Cue] = []
    failures = iter([True, True, False, False])

    def send(cue: Cue) -> None:
        if next(failures):
            raise Undelivered("nobody there")
        sent.append(cue)

    with Delivery("OBS", send, limit=10, pauses=(0.001, 0.001)) as delivery:
        delivery.put(ONE)
        delivery.put(TWO)
    assert sent == [ONE, TWO]
    assert capsys.readouterr().err.splitlines() == [
        "xlsr-live: captions do not reach OBS: nobody there; trying again",
        "xlsr-live: captions reach OBS again",
    ]


def test_a_name_of_no_host():
    for call in (lambda there: there.contact(), lambda there: there.send(ONE)):
        with pytest.raises(Undelivered, match=r"ws://a\.\.b:4455 is not an address"):
            call(ObsClient("a..b", 4455, ""))


def test_lost_captions_delay_nothing_and_are_counted(capsys: pytest.CaptureFixture[str]):
    def send(cue: Cue) -> None:
        raise ConnectionRefusedError("connection refused")

    with Delivery("OBS", send, limit=1, pauses=(60, 60), close_s=0.01) as delivery:
        for _ in range(50):
            delivery.put(ONE)
        assert settles(lambda: delivery._failing, True)  # the first failure is printed
    first, last = capsys.readouterr().err.splitlines()
    assert "connection refused" in first
    assert last == "xlsr-live: 50 of 50 captions did not reach OBS"


@pytest.mark.parametrize(
    ("target", "paced", "why"),
    [
        ("obs://me:secret@studio", True, PASSWORD_VARIABLE),
        ("obs://studio:port", True, "obs://127.0.0.1:4455"),
        ("obs:me:secret@studio", True, "obs://127.0.0.1:4455"),
        ("obs://[secret", True, "obs://127.0.0.1:4455"),
        ("https://upload.youtube.com/closedcaption?cid=secret", True, URL_VARIABLE),
        ("youtube", True, URL_VARIABLE),
        ("obs://studio", False, "--pace 1"),
    ],
)
def test_refused_targets_do_not_reveal_their_secrets(
    target: str, paced: bool, why: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    with pytest.raises(click.UsageError, match=why) as refused, caption_output(target, early=False, paced=paced):
        pass
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("password", "message"),
    [
        (PASSWORD, "connected"),
        ("wrong", f"OBS refuses the password in {PASSWORD_VARIABLE}"),
        ("", "OBS needs its password"),
    ],
)
def test_obs_is_contacted_before_the_first_caption(
    password: str, message: str, obs: FakeObs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv(PASSWORD_VARIABLE, password)
    with caption_output(f"obs://127.0.0.1:{obs.port}", early=False):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("xlsr-live: ")
    assert message in line
    assert (obs.captions, obs.connections) == ([], 1)


def test_youtube_is_contacted_without_the_key(
    youtube: FakeYouTube, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv(URL_VARIABLE, youtube.url)
    with caption_output("youtube", early=False):
        pass
    assert capsys.readouterr().err == "xlsr-live: YouTube: it answers; the first caption tests the key\n"
    assert youtube.posts == []
    monkeypatch.setenv(URL_VARIABLE, "http://127.0.0.1:9/closedcaption?cid=secret-key")
    with caption_output("youtube", early=False):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert "captions do not reach YouTube" in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("at_contact", "at_send", "why"),
    [
        (Undelivered("nobody is there"), Undelivered("nobody is there"), "nobody is there"),
        (ValueError("no sense"), KeyError("answer"), "internal error: ValueError: no sense"),
    ],
)
def test_a_failed_contact_is_not_reported_again_with_the_first_caption(
    at_contact: Exception, at_send: Exception, why: str, capsys: pytest.CaptureFixture[str]
):
    failures = iter([True, False])
    sent: list[Cue] = []

    def contact() -> str:
        raise at_contact

    def send(cue: Cue) -> None:
        if next(failures):
            raise at_send
        sent.append(cue)

    with Delivery("the tests", send, limit=2, contact=contact, pauses=(0.0, 0.0)) as delivery:
        delivery.put(ONE)
    assert sent == [ONE]
    assert capsys.readouterr().err.splitlines() == [
        f"xlsr-live: captions do not reach the tests: {why}; the next caption tries again",
        "xlsr-live: captions reach the tests again",
    ]
