"""Deepgram's live protocol at `/v1/listen`: settings in the address, audio in, Results out."""

from __future__ import annotations

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
from ...sessions.admission import Seat
from ...sessions.websocket import WebSocketStream
from ..audio_formats import Intake
from ..mapping import patient, writable
from . import shapes as shapes

SILENCE_S: Final = 10.0  # without audio or KeepAlive
MOST_ECHOED: Final = 1_000  # characters of a message that is not understood


class _Command(msgspec.Struct):
    type: str
    keyterms: list[str] | None = None


class DeepgramStream(WebSocketStream):
    dialect = "deepgram"
    subprotocols = ("token", "bearer")
    forgives = frozenset({Code.TRUNCATED_SAMPLE, Code.AUDIO_TOO_SHORT, Code.ENCODER_FAILED})

    def __init__(self, name: str, websocket: WebSocket, seat: Seat) -> None:
        self._query = shapes.Query(websocket.query_params)
        super().__init__(name, websocket, seat)
        self.idle_timeout_s = min(SILENCE_S, seat.settings.idle_timeout_s)
        self._id = str(uuid.uuid4())
        self._stream: StreamSession | None = None
        self._phrases = self._query.phrases
        self._sum = hashlib.sha256()
        self._channels = 0
        self._audio_s: float = 0.0
        self._told_s: float = 0.0  # where the finals reach
        self._final: events.Final | None = None  # of the utterance that is about to end
        self._open = False  # an utterance is
        self._interims = False  # some were sent of it
        self._finalizing = False
        self._last_word_s: float | None = None  # until its UtteranceEnd is told

    async def converse(self) -> None:
        intake = Intake(self._query.audio)
        try:
            while True:
                data = await self.next()
                if isinstance(data, bytes):
                    self._sum.update(data)
                    await self._hear(intake, intake.receive(data))
                elif (command := _parse(data)) is None:
                    self._object(data)
                elif command.type == "CloseStream":
                    await self._hear(intake, intake.end())
                    return
                else:
                    await self._obey(command, data)
        finally:
            intake.close()

    async def _obey(self, command: _Command, data: str) -> None:
        match command.type:
            case "KeepAlive":
                pass
            case "Finalize":
                await self._finalize()
            case "Configure":
                await self._configure(command)
            case _:
                self._object(data)

    async def _hear(self, intake: Intake, pieces: AsyncIterator[Any]) -> None:
        async for piece in pieces:
            if self._stream is None and intake.format is not None:
                self._channels = intake.format.channels
                self._stream = self.begin(self._settings(), intake.format)
            if self._stream is not None:
                await self.hear(piece)
        if self._stream is not None:
            self._audio_s = self._stream.received_s
            self._look_for_utterance_end()

    def _settings(self) -> SessionConfig:
        hotwords = writable(self._phrases, self.recognizer.encoder.vocabulary)
        config, pause = SessionConfig(hotwords=hotwords), self._query.endpointing
        return config if pause is None else patient(pause, config)

    async def _finalize(self) -> None:
        """Whoever asks waits for an answer, so there is one even if nothing was open."""
        self._finalizing = True
        if self._stream is not None:
            await self._stream.flush()
            await self._stream.settle()
        if self._finalizing:
            self._results("", (), self._audio_s, 0.0, final=True, ended=True)

    async def _configure(self, command: _Command) -> None:
        if command.keyterms is None:
            self._say(type="ConfigureSuccess", request_id=self._id)
            return
        self._phrases = command.keyterms
        if self._stream is not None:
            await self._stream.set_hotwords(writable(self._phrases, self.recognizer.encoder.vocabulary))
        self._say(type="ConfigureSuccess", request_id=self._id, keyterms=self._phrases)

    # ── what is said ──

    def told(self, event: events.Event) -> None:
        match event:
            case events.SpeechStarted():
                self._open = True
                if self._query.vad_events:
                    self._say(type="SpeechStarted", channel=[0, 1], timestamp=event.start)
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
                self._look_for_utterance_end()
            case _:
                pass

    def _end(self, event: events.SpeechEnded) -> None:
        final, self._final = self._final, None
        interims, self._open, self._interims = self._interims, False, False
        asked = event.reason in ("flush", "end")
        ended = asked or (event.reason != "length" and self._query.endpointing is not None)
        if final is not None:
            self._last_word_s = final.words[-1].end if final.words else final.end
            self._results(final.text, final.words, event.end, final.confidence, final=True, ended=ended)
        elif interims or asked:  # nothing was said after all
            self._results("", (), event.end, 0.0, final=True, ended=ended)
        self._look_for_utterance_end()

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
        start, end = self._told_s, max(self._told_s, end)
        asked = final and self._finalizing
        if final:
            self._told_s, self._finalizing = end, False
        alternative = {"transcript": text, "confidence": round(confidence, 3), "words": shapes.words(words)}
        info = self.recognizer.info
        self._say(
            topic,
            type="Results",
            channel_index=[0, 1],
            duration=round(end - start, 3),
            start=start,
            is_final=final,
            speech_final=ended,
            from_finalize=asked,
            channel={"alternatives": [alternative]},
            metadata={
                "request_id": self._id,
                "model_info": shapes.model_info(info),
                "model_uuid": shapes.model_id(info),
            },
        )

    def _look_for_utterance_end(self) -> None:
        gap, last = self._query.utterance_end_ms, self._last_word_s
        if gap is None or last is None or self._open or self._audio_s - last < gap / 1_000:
            return
        self._last_word_s = None
        self._say(type="UtteranceEnd", channel=[0, 1], last_word_end=last)

    def goodbye(self) -> None:
        about = shapes.metadata(self._id, self._sum.hexdigest(), self._audio_s, self._channels)
        self._say(type="Metadata", **about)

    def complaint(self, error: events.Error) -> str | None:
        if error.code == Code.IDLE_TIMEOUT:
            return None  # the reason of the closing says it
        return _json({"type": "Error", "variant": error.code, "description": error.message})

    def closing(self, code: str) -> tuple[int, str]:
        match code:
            case Code.IDLE_TIMEOUT:
                return 1011, "NET-0001"
            case Code.BAD_AUDIO | Code.BAD_CONFIG:
                return 1008, "DATA-0000"
            case _:
                return super().closing(code)

    def _object(self, message: str) -> None:
        """The connection stays open."""
        why = "Could not deserialize last text message: unknown or malformed"
        self._say(type="Error", variant="SchemaError", description=why, message=message[:MOST_ECHOED])

    def _say(self, topic: int | None = None, /, **message: Any) -> None:
        self.say(_json(message), topic)


def _parse(text: str) -> _Command | None:
    try:
        return msgspec.json.decode(text, type=_Command)
    except msgspec.DecodeError:
        return None


def _json(message: dict[str, Any]) -> str:
    return msgspec.json.encode(message).decode()
