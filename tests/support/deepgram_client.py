"""A bare client of Deepgram's live protocol."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from websockets.exceptions import ConnectionClosed
from xlsr_live.server.run import RunningServer

from tests.support.wire import dial

Message = dict[str, Any]
RAW = {"encoding": "linear16", "sample_rate": "16000"}
CLOSE_STREAM = '{"type":"CloseStream"}'


def address(server: RunningServer, **parameters: Any) -> str:
    return f"ws://127.0.0.1:{server.port}/v1/listen?" + "&".join(
        f"{name}={value}" for name, value in parameters.items()
    )


async def talk(
    url: str, messages: list[str | bytes], pace_s: float = 0, **options: Any
) -> tuple[list[Message], int | None, str | None]:
    """Send all messages at intervals of `pace_s`. Returns the answers, and code and reason of the close frame."""
    async with dial(url, **options) as websocket:
        for message in messages:
            await websocket.send(message)
            await asyncio.sleep(pace_s)
        received: list[Message] = []
        try:
            async for message in websocket:
                received.append(json.loads(message))
        except ConnectionClosed:
            pass
        return received, websocket.close_code, websocket.close_reason


def answers(server: RunningServer, messages: list[str | bytes], pace_s: float = 0, **parameters: Any) -> list[Message]:
    """All messages of the server, in a conversation that ends normally."""
    received, code, _ = asyncio.run(talk(address(server, **parameters), messages, pace_s))
    assert code == 1000
    assert received[-1]["type"] == "Metadata"
    assert {message["request_id"] for message in received if "request_id" in message} == {received[-1]["request_id"]}
    return received


def results(received: list[Message], *, final: bool = True) -> list[Message]:
    return [each for each in received if each["type"] == "Results" and each["is_final"] is final]


def transcripts(received: list[Message]) -> list[str]:
    return [text for each in results(received) if (text := each["channel"]["alternatives"][0]["transcript"])]
