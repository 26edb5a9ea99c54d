"""A client whose messages are always there already cannot keep the event loop to itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any, cast

import pytest
from xlsr_live.server.app import create_app
from xlsr_live.server.dialects.wyoming.live import WyomingDialect
from xlsr_live.server.dialects.wyoming.packets import Packet
from xlsr_live.server.models.models import Models
from xlsr_live.server.operations.reload import Reloader
from xlsr_live.server.sessions.admission import Admission
from xlsr_live.server.sessions.registry import SessionRegistry
from xlsr_live.server.settings import ServerSettings
from xlsr_live.server.transport import ClientLeft
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.fakes import FakeEncoder

MESSAGES = 300
HOTWORDS = json.dumps({"type": "hotwords", "phrases": ["AB CD"]})
RAW = "encoding=linear16&sample_rate=16000"


class Flood:
    """Gives messages without suspending, and counts how many in a row no other task got a turn for."""

    def __init__(self, messages: Sequence[Any], last: Any) -> None:
        self.longest = 0
        self._run = 0
        self._messages: Iterator[Any] = chain(messages[:-1], repeat(messages[-1], MESSAGES))
        self._last = last

    async def take_turns(self) -> None:
        while True:
            self._run = 0
            await asyncio.sleep(0)

    def next(self) -> Any:
        self._run += 1
        self.longest = max(self.longest, self._run)
        return next(self._messages, self._last)


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    with Recognizer(FakeEncoder(context=False), adaptive=False) as recognizer:  # type: ignore[arg-type]
        yield Models(recognizer, 60, borrowed=True)


async def serve(admission: Admission, path: str, flood: Flood) -> None:
    async def receive() -> dict[str, Any]:
        return flood.next()

    async def send(message: Any) -> None:
        pass

    path, _, query = path.partition("?")
    address = {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2_700), "scheme": "ws", "root_path": ""}
    request = {"path": path, "raw_path": path.encode(), "query_string": query.encode(), "headers": []}
    scope = {"type": "websocket", "asgi": {"version": "3.0"}, "subprotocols": [], **address, **request}
    app = create_app(admission, Reloader(admission, cast(Any, None), lambda: admission.settings))
    turns = asyncio.create_task(flood.take_turns())
    await app(scope, receive, send)
    turns.cancel()


def admitted(models: Models) -> Admission:
    return Admission(models, ServerSettings(vosk_port=2_700), SessionRegistry(9))


@pytest.mark.parametrize(
    ("path", "messages"),
    [
        ("/v1/stream", [HOTWORDS]),
        ("/v1/stream", ['{"type":"flush"}']),
        ("/v1/stream", [b"\0"]),
        ("/v1/stream", [b""]),
        ("/v1/stream", ['{"type":"end"}', b""]),  # after the end of its session
        (f"/v1/listen?{RAW}", ['{"type":"KeepAlive"}']),
        ("/v1/realtime", ["{}"]),
        ("/", ['{"config":{"words":1}}']),
        ("/", [b""]),
    ],
)
def test_others_get_a_turn_between_any_two_messages(models: Models, path: str, messages: list[str | bytes]):
    received = [{"type": "websocket.receive", "text" if isinstance(one, str) else "bytes": one} for one in messages]
    left = {"type": "websocket.disconnect", "code": 1000, "reason": ""}
    flood = Flood([{"type": "websocket.connect"}, *received], left)
    asyncio.run(serve(admitted(models), path, flood))
    assert flood.longest <= 2


def test_packets_of_a_wyoming_client_leave_turns_too(models: Models):
    class Transport:
        async def open(self) -> None:
            pass

        async def receive(self) -> Packet:
            if (packet := flood.next()) is None:
                raise ClientLeft
            return packet

    flood = Flood([Packet("transcribe")], None)

    async def scene() -> None:
        admission = admitted(models)
        turns = asyncio.create_task(flood.take_turns())
        with admission.lease(admission.access.anonymous("127.0.0.1")) as lease:
            await WyomingDialect("w", cast(Any, Transport()), lease).run()
        turns.cancel()

    asyncio.run(scene())
    assert flood.longest <= 2
