"""A bare client of OpenAI's Realtime protocol."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

from xlsr_live.server.run import RunningServer

from tests.support.native_reference import native_finals
from tests.support.wire import dial, packets

Message = dict[str, Any]
DELTA = "conversation.item.input_audio_transcription.delta"
COMPLETED = "conversation.item.input_audio_transcription.completed"
COMMIT = '{"type":"input_audio_buffer.commit"}'
CLEAR = '{"type":"input_audio_buffer.clear"}'
MANUAL = '{"type":"session.update","session":{"type":"transcription","audio":{"input":{"turn_detection":null}}}}'
UTTERANCE = [
    "input_audio_buffer.speech_started",
    DELTA,
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
    COMPLETED,
]


def at_24k(server: RunningServer, data: bytes, **config: Any) -> list[Any]:
    """The native protocol's finals of the same audio."""
    return native_finals(server, data, json.dumps({"type": "start", "sample_rate": 24_000, "config": config}))


def append(data: bytes) -> str:
    return json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(data).decode()})


def appended(data: bytes) -> list[str]:
    return [append(packet) for packet in packets(data, 48_000)]


async def talk(
    server: RunningServer,
    messages: list[str],
    until: Callable[[list[Message]], bool],
    query: str = "intent=transcription",
    **options: Any,
) -> list[Message]:
    async with dial(f"ws://127.0.0.1:{server.port}/v1/realtime?{query}", **options) as websocket:
        for message in messages:
            await websocket.send(message)
        received: list[Message] = []
        while not until(received):
            received.append(json.loads(await asyncio.wait_for(websocket.recv(), 60)))
        return received


def answers(server: RunningServer, messages: list[str], last: str, count: int = 1, **options: Any) -> list[Message]:
    """All that the server sends up to the `count`th message of type `last`."""
    received = asyncio.run(
        talk(server, messages, lambda received: [one["type"] for one in received].count(last) == count, **options)
    )
    assert len({message["event_id"] for message in received}) == len(received)
    return received


def kinds(received: list[Message]) -> list[str]:
    """Types in their order, runs of deltas as one."""
    names = [message["type"] for message in received]
    return [name for at, name in enumerate(names) if name != DELTA or names[at - 1] != DELTA]


def transcripts(received: list[Message]) -> list[str]:
    return [message["transcript"] for message in received if message["type"] == COMPLETED]
