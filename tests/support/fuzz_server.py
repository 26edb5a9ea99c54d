"""The server without sockets, for `test_fuzz` and `fuzz`.

A conversation passes through the whole ASGI app (routes, access, admission, dialect, session) or, for Wyoming, through
its stream; the encoder is a fake. A declared error is a correct answer. These are bugs: an unexpected exception, a log
record at ERROR, an undeclared status or close code, an answer that is not JSON, and more CPU time than `CPU_S`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, cast

import pytest
from xlsr_live.server.app import create_app
from xlsr_live.server.dialects import base
from xlsr_live.server.dialects.wyoming import packets
from xlsr_live.server.dialects.wyoming.live import WyomingDialect
from xlsr_live.server.models.models import Models
from xlsr_live.server.operations.reload import Reloader
from xlsr_live.server.refusals import CLOSE_CODES, HTTP_STATUSES
from xlsr_live.server.sessions.admission import Admission
from xlsr_live.server.sessions.registry import SessionRegistry
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming import recognizer as front_door
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.fakes import FakeEncoder, LoudVad

CPU_S: Final = 5.0  # for one conversation
CLOSES: Final = {*CLOSE_CODES.values(), 1000}
STATUSES: Final = {*HTTP_STATUSES.values(), 200, 204, 400, 405} - {500}

Message = str | bytes


class Server:
    """A context manager: one server for many conversations, each in its own event loop."""

    def __enter__(self) -> Server:
        self._recognizer = Recognizer(FakeEncoder(context=False), adaptive=False)  # type: ignore[arg-type]
        self._patches = pytest.MonkeyPatch()  # last: if the line above fails, nothing stays patched
        self._patches.setattr(front_door, "make_vad", lambda name: None if name == "none" else LoudVad())
        self._patches.setattr(base, "LAST_ERROR_S", 0.2)
        self._patches.setattr(packets, "PARTING_S", 0.2)
        self._log_errors: list[str] = []
        self._log = logging.Handler(logging.ERROR)
        self._log.emit = lambda record: self._log_errors.append(logging.Formatter().format(record))  # type: ignore
        logging.getLogger().addHandler(self._log)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self._log)
        self._recognizer.close()
        self._patches.undo()

    def websocket(self, path: str, query: bytes, headers: dict[bytes, bytes], messages: Sequence[Message]) -> list[str]:
        """Send the messages, disconnect, and return the text messages that the server sent."""
        extensions = {"websocket.http.response": {}}
        offered = headers.get(b"sec-websocket-protocol", b"").decode("latin-1").split(",")
        scope = {"type": "websocket", "subprotocols": [each.strip() for each in offered if each.strip()]}
        client = deque[dict[str, Any]]([{"type": "websocket.connect"}])
        client += [
            {"type": "websocket.receive", "text" if isinstance(one, str) else "bytes": one, **_other_field(one)}
            for one in messages
        ]
        client.append({"type": "websocket.disconnect", "code": 1000, "reason": ""})
        sent = self._run({**scope, "path": path, "extensions": extensions}, query, headers, client)
        for message in sent:
            if message["type"] == "websocket.close":
                assert message["code"] in CLOSES, message
        return [json.dumps(json.loads(message["text"])) for message in sent if message.get("text")]

    def request(
        self, method: str, path: str, headers: dict[bytes, bytes], body: Sequence[bytes], query: bytes = b""
    ) -> None:
        """One HTTP request; `body` holds the pieces in which it arrives."""
        client = deque[dict[str, Any]](
            {"type": "http.request", "body": piece, "more_body": at < len(body)} for at, piece in enumerate(body, 1)
        )
        self._run({"type": "http", "method": method, "path": path, "http_version": "1.1"}, query, headers, client)

    def wyoming(self, data: bytes) -> None:
        """A Wyoming client that sends these bytes and disconnects."""

        async def scene() -> None:
            admission = self._admission()
            reader = asyncio.StreamReader(limit=packets.LONGEST_HEADER)
            reader.feed_data(data)
            reader.feed_eof()
            transport = packets.WyomingTransport(reader, cast(Any, _Writer()), admission.settings.max_message_bytes)
            with admission.lease(admission.access.anonymous("127.0.0.1")) as lease:
                await WyomingDialect("w", transport, lease).run()

        self._within(scene())

    def _admission(self) -> Admission:
        settings = ServerSettings(max_message_bytes=1 << 16, max_upload_bytes=1 << 18, vosk_port=2_700)
        return Admission(Models(self._recognizer, 60, borrowed=True), settings, SessionRegistry(100))

    def _run(
        self, scope: dict[str, Any], query: bytes, headers: dict[bytes, bytes], client: deque[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def scene() -> None:
            admission = self._admission()
            app = create_app(admission, Reloader(admission, cast(Any, None), lambda: admission.settings))

            async def receive() -> dict[str, Any]:
                return client.popleft() if client else await asyncio.Event().wait() and {}

            async def send(message: Any) -> None:
                sent.append(message)

            address = {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8_765), "scheme": "http", "root_path": ""}
            request = {"headers": [*headers.items()], "query_string": query, "raw_path": scope["path"].encode()}
            await app({"asgi": {"version": "3.0"}, **address, **request, **scope}, receive, send)
            assert not admission.sessions.count

        self._within(scene())
        for message in sent:
            assert message.get("status", 200) in STATUSES, message
        return sent

    def _within(self, scene: Any) -> None:
        started = time.process_time()
        asyncio.run(asyncio.wait_for(scene, 600))
        took = time.process_time() - started
        assert took < CPU_S, f"{took:.1f} s of CPU time"
        errors, self._log_errors[:] = [*self._log_errors], []
        assert not errors, errors[0]


def _other_field(message: Message) -> dict[str, None]:
    return {"bytes" if isinstance(message, str) else "text": None}


class _Writer:
    def write(self, data: bytes) -> None:
        for line in data.split(b"\n")[:1]:
            json.loads(line)

    async def drain(self) -> None: ...

    def write_eof(self) -> None: ...
