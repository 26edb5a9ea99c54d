"""Clients of every protocol that speak one utterance in each of several languages, in one session where the protocol
can; official ones where they exist. Each takes a server, the languages and an utterance as 16-bit samples.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from xlsr_live.client.remote.websocket import connect
from xlsr_live.server.run import RunningServer
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.errors import XlsrLiveError
from xlsr_live.streaming.languages import bcp47
from xlsr_live.streaming.protocol.events import Final, Warning

from tests.support.native_reference import as_file, at_rate
from tests.support.realtime_client import COMPLETED
from tests.support.wire import dial, packets

Language = str | list[str] | None  # several: each utterance gets one of them
Spoken = list[tuple[str, str]]  # BCP 47 tags and texts, or an error and its sentence
LanguageClient = Callable[[RunningServer, list[Language], bytes], Awaitable[Spoken]]


def choice(language: Language) -> SessionConfig:
    if isinstance(language, list):
        return SessionConfig(language="auto", allowed_languages=tuple(language))
    return SessionConfig(language=language)


async def native(server: RunningServer, languages: list[Language], speech: bytes) -> Spoken:
    spoken: Spoken = []
    try:
        async with connect(server.url, config=choice(languages[0])) as session:
            for language in languages:
                if language is not languages[0]:
                    await session.set_language(language)
                await session.send(speech)
            await session.end()
            async for event in session:
                if isinstance(event, Final):
                    spoken.append((bcp47(event.language or ""), event.text))
                if isinstance(event, Warning):
                    spoken.append((event.code, event.message))
    except XlsrLiveError as error:
        spoken.append(("error", str(error).removeprefix("the server ended the session: ")))
    return spoken


async def realtime(server: RunningServer, languages: list[Language], speech: bytes) -> Spoken:
    openai = pytest.importorskip("openai", reason="openai, the official client, is not installed")
    spoken: Spoken = []
    wide = at_rate(np.frombuffer(speech, np.int16), 24_000).tobytes()
    async with (
        openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="any") as client,
        client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        for language in languages:
            several = isinstance(language, list)
            transcription = {
                "model": "whisper-1",
                **({"languages" if several else "language": language} if language else {}),
            }
            settings = {"type": "transcription", "audio": {"input": {"transcription": transcription}}}
            await connection.session.update(session=settings)
            for packet in packets(wide, 48_000):
                await connection.input_audio_buffer.append(audio=base64.b64encode(packet).decode())
            async for event in connection:
                if event.type == COMPLETED:
                    spoken.append((event.to_dict()["language"], event.transcript))
                    break
                if event.type == "error":
                    return [*spoken, ("error", event.error.message)]
    return spoken


async def deepgram(server: RunningServer, languages: list[Language], speech: bytes) -> Spoken:
    """Its language belongs to the connection."""
    sdk = pytest.importorskip("deepgram", reason="deepgram-sdk, the official client, is not installed")
    from deepgram.core.events import EventType

    place = f"127.0.0.1:{server.port}"
    environment = sdk.DeepgramClientEnvironment(
        base=f"http://{place}", production=f"ws://{place}", agent=f"ws://{place}", agent_rest=f"http://{place}"
    )
    client = sdk.AsyncDeepgramClient(api_key="any", environment=environment)
    spoken: Spoken = []

    def take(message: Any) -> None:
        if message.type == "Error":
            spoken.append(("error", message.description))
        elif message.type == "Results" and (best := message.channel.alternatives[0]).transcript:
            spoken.append((best.languages[0], best.transcript))

    for language in languages:
        form = {"model": "nova-3", "encoding": "linear16", "sample_rate": 16_000}
        chosen = (
            {"language": "multi", "language_hint": language} if isinstance(language, list) else {"language": language}
        )
        async with client.listen.v1.connect(**form, **chosen) as connection:
            connection.on(EventType.MESSAGE, take)
            listening = asyncio.create_task(connection.start_listening())
            for packet in packets(speech, 32_000):
                await connection.send_media(packet)
            await connection.send_close_stream()
            await listening
    return spoken


async def vosk(server: RunningServer, languages: list[Language], speech: bytes) -> Spoken:
    """Like the published test.py, which has no package."""
    spoken: Spoken = []
    try:
        async with dial(f"ws://127.0.0.1:{server.vosk_port}") as websocket:
            for language in languages:
                chosen = {"language": language} if language else {}
                await websocket.send(json.dumps({"config": {"sample_rate": 16_000, **chosen}}))
                for packet in packets(speech, 32_000):
                    await websocket.send(packet)
                    if (reply := json.loads(await websocket.recv())).get("text"):
                        spoken.append((reply["language"], reply["text"]))
            await websocket.send('{"eof" : 1}')
            await websocket.recv()
    except ConnectionClosed as error:
        spoken.append(("error", error.rcvd.reason if error.rcvd else ""))
    return spoken


async def wyoming(server: RunningServer, languages: list[Language], speech: bytes) -> Spoken:
    pytest.importorskip("wyoming", reason="wyoming, the official package, is not installed")
    from wyoming.asr import Transcribe, Transcript
    from wyoming.audio import AudioChunk, AudioStart, AudioStop
    from wyoming.client import AsyncTcpClient
    from wyoming.error import Error

    form = {"rate": 16_000, "width": 2, "channels": 1}
    spoken: Spoken = []
    async with AsyncTcpClient("127.0.0.1", server.wyoming_port or 0, read_timeout=60) as client:
        for language in languages:
            await client.write_event(Transcribe(language=language).event())
            await client.write_event(AudioStart(**form).event())
            await client.write_event(AudioChunk(audio=speech, **form).event())
            await client.write_event(AudioStop().event())
            while (event := await client.read_event()) is not None:
                if Error.is_type(event.type):
                    return [*spoken, ("error", Error.from_event(event).text)]
                if Transcript.is_type(event.type):
                    spoken.append((event.data["language"], Transcript.from_event(event).text))
                    break
    return spoken


async def files(server: RunningServer, languages: list[Language], speech: bytes) -> Spoken:
    openai = pytest.importorskip("openai", reason="openai, the official client, is not installed")
    spoken: Spoken = []
    file = "talk.wav", as_file(np.frombuffer(speech, np.int16))
    async with openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{server.port}/v1", api_key="any", max_retries=0
    ) as client:
        for language in languages:
            chosen = {"language": language} if language else {}
            try:
                answer = await client.audio.transcriptions.create(
                    file=file, model="m", response_format="verbose_json", **chosen
                )
            except openai.BadRequestError as error:
                return [*spoken, ("error", error.body["message"])]
            spoken.append((answer.language, answer.text))
    return spoken


CLIENTS: list[LanguageClient] = [native, realtime, deepgram, vosk, wyoming, files]


def ask(client: LanguageClient, server: RunningServer, languages: list[Language], speech: bytes) -> Spoken:
    return asyncio.run(asyncio.wait_for(client(server, languages, speech), 60))
