"""The protocol of alphacep's vosk-server: every binary message is answered by exactly one text message.

A reply tells what is known of all audio up to the message that it answers, as in the original, so a client that waits
for replies sends a file as fast as it is recognized and finds every final in its place.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.websockets import WebSocket

from ..streaming import events
from ..streaming.config import MAX_RATE, MIN_RATE, AudioFormat, SessionConfig
from ..streaming.errors import ConfigError
from ..streaming.live import StreamSession
from ..streaming.vocabulary import Vocabulary
from .admission import Seat
from .mapping import writable
from .messages import Code, ProtocolError
from .wav import WavStream
from .websocket import WebSocketStream

UNKNOWN: Final = "[unk]"  # in a phrase list: anything else that may be said


class Config(msgspec.Struct):
    """`config`; fields that are not listed are ignored, a model's name among them."""

    sample_rate: float | None = None
    words: bool | int = True
    max_alternatives: int = 0
    phrase_list: list[str] = []


class _Command(msgspec.Struct):
    config: dict[str, Any] | None = None
    eof: Any = None
    reset: Any = None


class VoskStream(WebSocketStream):
    dialect = "vosk"
    forgives = frozenset({Code.TRUNCATED_SAMPLE, Code.AUDIO_TOO_SHORT, Code.ENCODER_FAILED})

    def __init__(self, name: str, websocket: WebSocket, seat: Seat) -> None:
        super().__init__(name, websocket, seat)
        self._options: dict[str, Any] = {}
        self._config = Config()
        self._wav = WavStream()
        self._stream: StreamSession | None = None
        self._finals: list[events.Final] = []  # that no reply has told yet
        self._partial = ""
        self._asked = False  # for the last result

    async def converse(self) -> None:
        while True:
            data = await self.next()
            if isinstance(data, bytes):
                await self._hear(self._wav.receive(data))
                await self.outbox.room()  # a client that sends first and reads later is made to wait, not dropped
                self.say(self._result() if self._finals else _json({"partial": self._partial}))
                continue
            command = _parse(data)
            if command.config is not None:
                self._options |= command.config
                if self._stream is None:  # later it is too late, as in the original
                    self._config = _convert(self._options, Config)
            elif command.eof:
                self._asked = True
                return
            elif command.reset:
                if self._stream is not None:
                    await self._stream.flush()
                    await self._stream.settle()
                self.say(self._result())
            else:
                raise ProtocolError(Code.UNKNOWN_TYPE, "text messages hold config, reset or eof")

    def told(self, event: events.Event) -> None:
        match event:
            case events.Partial():
                self._partial = self.join(event.committed, event.volatile)
            case events.Final():
                self._finals.append(event)
            case events.SpeechEnded():
                self._partial = ""
            case _:
                pass

    def complaint(self, error: events.Error) -> None:
        """There are no error messages, only the close code."""

    def closing(self, code: str) -> tuple[int, str]:
        number, reason = super().closing(code)
        return (number if number in (1001, 1013) else 1011), reason

    def goodbye(self) -> None:
        if self._asked or self._finals:
            self.say(self._result())

    async def _hear(self, samples: bytes) -> None:
        if not samples:
            return
        if self._stream is None:
            self._stream = self.begin(self._settings(), self._wav.format or self._declared())
        await self.hear(samples)
        await self._stream.settle()

    def _declared(self) -> AudioFormat:
        rate = round(self._config.sample_rate or self.settings.vosk_rate)
        if not MIN_RATE <= rate <= MAX_RATE:
            raise ConfigError(f"sample_rate is {rate}; it must be {MIN_RATE} to {MAX_RATE} Hz")
        return AudioFormat(sample_rate=rate)

    def _settings(self) -> SessionConfig:
        model = self.recognizer.assets.language_model
        nbest = min(max(0, self._config.max_alternatives), 50) if model is not None else 0
        return SessionConfig(nbest=nbest, **_listening(self._config.phrase_list, self.recognizer.encoder.vocabulary))

    def _result(self) -> str:
        """What was said since the last result. Finals that came together, as in a long message, are told as one."""
        finals, self._finals = self._finals, []
        text = self.join(*(final.text for final in finals))
        if self._config.max_alternatives > 0:
            return _json({"alternatives": self._alternatives(finals, text)})
        words = [
            {"conf": word.confidence, "end": word.end, "start": word.start, "word": word.word}
            for final in finals
            for word in final.words
        ]
        return _json({"result": words, "text": text} if words and self._config.words else {"text": text})

    def _alternatives(self, finals: list[events.Final], text: str) -> list[dict[str, Any]]:
        if not finals:
            return [{"text": "", "confidence": 1.0}]
        words = [{"end": word.end, "start": word.start, "word": word.word} for final in finals for word in final.words]
        heard: dict[str, Any] = {"confidence": finals[0].confidence, "text": text}
        if self._config.words:
            heard["result"] = words
        others = finals[0].nbest if len(finals) == 1 else msgspec.UNSET
        if others is msgspec.UNSET or not others:
            return [heard]
        heard["confidence"] = others[0].score
        return [heard, *({"confidence": other.score, "text": other.text} for other in others[1:])]


def _listening(phrases: list[str], vocabulary: Vocabulary) -> dict[str, Any]:
    """A phrase list as settings of a session: phrases that are favoured over what they resemble, and all else is still
    written. (The place to ask for a grammar of the phrases instead, which would reject all else unless `[unk]` is in
    the list.)
    """
    return {"hotwords": writable((phrase for phrase in phrases if phrase != UNKNOWN), vocabulary)}


def _parse(text: str) -> _Command:
    try:
        return msgspec.json.decode(text, type=_Command)
    except msgspec.ValidationError as error:
        raise ProtocolError(Code.BAD_MESSAGE, str(error)) from None
    except msgspec.DecodeError as error:
        raise ProtocolError(Code.NOT_JSON, str(error)) from None


def _convert(options: dict[str, Any], to: type[Config]) -> Config:
    try:
        return msgspec.convert(options, to, strict=False)
    except msgspec.ValidationError as error:
        raise ProtocolError(Code.BAD_MESSAGE, str(error)) from None


def _json(message: dict[str, Any]) -> str:
    return msgspec.json.encode(message).decode()
