"""Deepgram's live protocol at `/v1/listen`: settings in the address, audio in, `Results` out."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Sequence
from statistics import fmean
from typing import Any, Final

import msgspec
from starlette.websockets import WebSocket

from ....streaming.config import SessionConfig
from ....streaming.live import StreamSession
from ....streaming.protocol import events
from ....streaming.protocol.codes import Code
from ...sessions.admission import Lease
from ..audio_formats import AudioIntake
from ..mapping import hotwords, with_pause
from ..websocket import WebSocketDialect
from . import shapes
from .query import Query

SILENCE_S: Final = 10.0  # without audio or KeepAlive
MOST_ECHOED: Final = 1_000  # characters of an unknown message


class _Command(msgspec.Struct):
    type: str
    keyterms: list[str] | None = None


class DeepgramDialect(WebSocketDialect):
    """A live stream in Deepgram's protocol."""

    dialect = "deepgram"
    subprotocols = ("token", "bearer")
    ignored_errors = frozenset({Code.TRUNCATED_SAMPLE, Code.AUDIO_TOO_SHORT, Code.ENCODER_FAILED})

    def __init__(self, name: str, websocket: WebSocket, lease: Lease) -> None:
        self._query = Query(websocket.query_params)
        super().__init__(name, websocket, lease)
        self.idle.limit_s = min(SILENCE_S, lease.settings.idle_timeout_s)
        self._id = str(uuid.uuid4())
        self._stream: StreamSession | None = None
        self._phrases = self._query.phrases
        self._sha256 = hashlib.sha256()
        self._channels = 0
        self._audio_s: float = 0.0
        self._pre_roll_s = 0.0  # how far before its speech an utterance starts
        self._results_s: float = 0.0  # end of the last final results, in seconds
        self._final: events.Final | None = None  # of the utterance that is ending
        self._open = False  # whether an utterance is open
        self._interims = False  # whether interim results of it were sent
        self._finalizing = False
        self._last_word_s: float | None = None  # until its UtteranceEnd is sent

    async def handle_messages(self) -> None:
        intake = AudioIntake(self._query.audio)
        try:
            while True:
                data = await self.next_message()
                command = _parse(data) if isinstance(data, str) else None
                # Older SDKs send an empty binary message for CloseStream.
                if data == b"" or (command is not None and command.type == "CloseStream"):
                    await self._receive(intake, intake.end())
                    return
                if isinstance(data, bytes):
                    self._sha256.update(data)
                    await self._receive(intake, intake.receive(data))
                elif command is None:
                    self._reject(data)
                else:
                    await self._handle(command, data)
        finally:
            intake.close()

    async def _handle(self, command: _Command, data: str) -> None:
        match command.type:
            case "KeepAlive":
                pass
            case "Finalize":
                await self._finalize()
            case "Configure":
                await self._configure(command)
            case _:
                self._reject(data)

    async def _receive(self, intake: AudioIntake, pieces: AsyncIterator[Any]) -> None:
        async for piece in pieces:
            if self._stream is None and intake.format is not None:
                self._channels = intake.format.channels
                config = await asyncio.to_thread(self._settings)  # a language may have to be loaded
                self._pre_roll_s = config.pre_roll_ms / 1_000
                self._stream = await self.begin_session(config, intake.format)
            if self._stream is not None:
                await self.send_audio(piece)
        if self._stream is not None:
            self._audio_s = self._stream.received_s
            self._send_utterance_end(self._stream.quiet_s)

    def _settings(self) -> SessionConfig:
        config = self._query.with_language(SessionConfig(), self.recognizer)
        config = msgspec.structs.replace(config, hotwords=hotwords(self._phrases, self.recognizer, config))
        pause = self._query.endpointing
        return config if pause is None else with_pause(pause, config)

    async def _finalize(self) -> None:
        """Answers even if no utterance was open: the client waits for it."""
        if self._stream is not None:
            await self._stream.settle()  # finals of utterances that have ended already are not from this message
        self._finalizing = True
        if self._stream is not None:
            await self._stream.flush()
            await self._stream.settle()
        if self._finalizing:
            self._results("", (), self._audio_s, 0.0, final=True, ended=True)

    async def _configure(self, command: _Command) -> None:
        if command.keyterms is None:
            self._send(type="ConfigureSuccess", request_id=self._id)
            return
        self._phrases = command.keyterms
        if self._stream is not None:
            await self._stream.set_hotwords((await asyncio.to_thread(self._settings)).hotwords)
        self._send(type="ConfigureSuccess", request_id=self._id, keyterms=self._phrases)

    # ── events of the session ──

    def on_event(self, event: events.Event) -> None:
        match event:
            case events.SpeechStarted():
                self._send_utterance_end(event.start + self._pre_roll_s)
                self._open = True
                if self._query.vad_events:
                    self._send(type="SpeechStarted", channel=[0, 1], timestamp=event.start)
            case events.Partial() if self._query.interim:
                self._interims = True
                text = self.join(event.committed, event.volatile)
                confidence = fmean(word.confidence for word in event.words) if event.words else 0.0
                self._results(text, event.words, event.audio_s, confidence, topic=event.utterance)
            case events.Final():
                self._final = event
            case events.SpeechEnded():
                self._end(event)
            case events.SessionEnded():
                self._audio_s = event.audio_s
                self._send_utterance_end(event.audio_s)
            case _:
                pass

    def _end(self, event: events.SpeechEnded) -> None:
        final, self._final = self._final, None
        interims, self._open, self._interims = self._interims, False, False
        requested = event.reason in ("flush", "end")
        ended = requested or (event.reason != "length" and self._query.endpointing is not None)
        if final is not None:
            self._last_word_s = final.words[-1].end if final.words else final.end
            self._results(final.text, final.words, event.end, final.confidence, final=True, ended=ended)
        elif interims or requested:  # an utterance without text
            self._results("", (), event.end, 0.0, final=True, ended=ended)
        if self._stream is not None:
            self._send_utterance_end(self._stream.quiet_s)

    def _results(
        self,
        text: str,
        words: Sequence[events.Word],
        end: float,
        confidence: float,
        *,
        final: bool = False,
        ended: bool = False,
        topic: int | None = None,
    ) -> None:
        start, end = self._results_s, max(self._results_s, end)
        finalized = final and self._finalizing
        if final:
            self._results_s, self._finalizing = end, False
        alternative: dict[str, Any] = {
            "transcript": text,
            "confidence": round(confidence, 3),
            "words": shapes.words(words, self.tag),
        }
        if words and self.tag is not None:
            alternative["languages"] = [self.tag]
        info = self.recognizer.info
        self._send(
            topic,
            type="Results",
            channel_index=[0, 1],
            duration=round(end - start, 3),
            start=start,
            is_final=final,
            speech_final=ended,
            from_finalize=finalized,
            channel={"alternatives": [alternative]},
            metadata={
                "request_id": self._id,
                "model_info": shapes.model_info(info),
                "model_uuid": shapes.model_id(info),
            },
        )

    def _send_utterance_end(self, quiet_s: float) -> None:
        """Send `UtteranceEnd` if the silence from the last word to `quiet_s` is long enough.

        Do not count audio that the gate has not examined yet: messages must not depend on the pace of the audio.
        """
        gap, last = self._query.utterance_end_ms, self._last_word_s
        if gap is None or last is None or self._open or quiet_s - last < gap / 1_000:
            return
        self._last_word_s = None
        self._send(type="UtteranceEnd", channel=[0, 1], last_word_end=last)

    def on_end(self) -> None:
        about = shapes.metadata(self._id, self._sha256.hexdigest(), self._audio_s, self._channels)
        self._send(type="Metadata", **about)

    def encode_error(self, error: events.Error) -> str | None:
        if error.code == Code.IDLE_TIMEOUT:
            return None  # the close frame has the reason
        return _json({"type": "Error", "variant": error.code, "description": error.message})

    def close_frame(self, code: str) -> tuple[int, str]:
        match code:
            case Code.IDLE_TIMEOUT:
                return 1011, "NET-0001"
            case Code.BAD_AUDIO | Code.BAD_CONFIG:
                return 1008, "DATA-0000"
            case _:
                return super().close_frame(code)

    def _reject(self, message: str) -> None:
        """The connection stays open."""
        why = "Could not deserialize last text message: unknown or malformed"
        self._send(type="Error", variant="SchemaError", description=why, message=message[:MOST_ECHOED])

    def _send(self, topic: int | None = None, /, **message: Any) -> None:
        self.send(_json(message), topic)


def _parse(text: str) -> _Command | None:
    try:
        return msgspec.json.decode(text, type=_Command)
    except msgspec.DecodeError:
        return None


def _json(message: dict[str, Any]) -> str:
    return msgspec.json.encode(message).decode()
