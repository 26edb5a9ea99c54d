"""The protocol of alphacep's vosk-server: every binary message is answered by exactly one text message.

A reply tells what is known of all audio up to the message that it answers, as in the original, so a client that waits
for replies sends a file as fast as it is recognized and finds every final in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from starlette.websockets import WebSocket

from ....streaming.config import MAX_RATE, MIN_RATE, AudioFormat, SessionConfig
from ....streaming.errors import ConfigError, GrammarError
from ....streaming.live import StreamSession
from ....streaming.protocol import events
from ....streaming.protocol.codes import Code, ProtocolError
from ...sessions.admission import Seat
from ...sessions.websocket import WebSocketStream
from ..wav import WavStream
from .phrases import SLOT, PhraseList


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


class _Said(NamedTuple):
    """One utterance, as a result tells it."""

    words: Sequence[events.Word]
    score: float
    others: Sequence[tuple[str, float]] = ()  # what else it may have been, and the score of that


class VoskStream(WebSocketStream):
    dialect = "vosk"
    forgives = frozenset({Code.TRUNCATED_SAMPLE, Code.AUDIO_TOO_SHORT, Code.ENCODER_FAILED})

    def __init__(self, name: str, websocket: WebSocket, seat: Seat) -> None:
        super().__init__(name, websocket, seat)
        self._options: dict[str, Any] = {}
        self._config = Config()
        self._wav = WavStream()
        self._stream: StreamSession | None = None
        self._phrases: PhraseList | None = None
        self._open: _Said | None = None  # the utterance that is about to end
        self._finals: list[_Said] = []  # that no reply has told yet
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
                self._options |= {
                    name: command.config[name] for name in Config.__struct_fields__ if name in command.config
                }
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
                self._partial = self.join(*(word.word for word in self._sieved(event.words)))
            case events.Final():
                ranked = [(one.text, one.score) for one in event.nbest or ()]
                score = ranked[0][1] if ranked else event.confidence
                self._open = _Said(self._sieved(event.words), score, ranked[1:])
            case events.Command():  # instead of what was written without the grammar
                others = [(str(one.slots[SLOT]), one.score) for one in event.alternatives or ()]
                self._open = _Said(self._sieved(event.words), event.score, others)
            case events.SpeechEnded():
                self._finals += [] if self._open is None else [self._open]
                self._open, self._partial = None, ""
            case _:
                pass

    def _sieved(self, words: Sequence[events.Word]) -> Sequence[events.Word]:
        return words if self._phrases is None else list(self._phrases.sieve(words))

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
            audio, settings = self._wav.format or self._declared(), self._settings()
            try:
                await self.recognizer.prepare(settings.grammar)
            except GrammarError:  # too many words; the sieve alone holds back what is none of them
                settings = msgspec.structs.replace(settings, grammar="")
            self._stream = self.begin(settings, audio)
        await self.hear(samples)
        await self._stream.settle()

    def _declared(self) -> AudioFormat:
        rate = round(self._config.sample_rate or self.settings.vosk_rate)
        if not MIN_RATE <= rate <= MAX_RATE:
            raise ConfigError(f"sample_rate is {rate}; it must be {MIN_RATE} to {MAX_RATE} Hz")
        return AudioFormat(sample_rate=rate)

    def _settings(self) -> SessionConfig:
        wanted = min(max(0, self._config.max_alternatives), 50)
        if self._config.phrase_list:
            self._phrases = PhraseList(self._config.phrase_list, self.recognizer.encoder.vocabulary)
            return self._phrases.settings(wanted)
        return SessionConfig(nbest=wanted if self.recognizer.assets.language_model is not None else 0)

    def _result(self) -> str:
        """What was said since the last result. Finals that came together, as in a long message, are told as one."""
        finals, self._finals = self._finals, []
        words = [word for final in finals for word in final.words]
        text = self.join(*(word.word for word in words))
        if self._config.max_alternatives > 0:
            return _json({"alternatives": self._alternatives(finals, words, text)})
        told = [{"conf": word.confidence, **_place(word)} for word in words]
        return _json({"result": told, "text": text} if told and self._config.words else {"text": text})

    def _alternatives(self, finals: list[_Said], words: list[events.Word], text: str) -> list[dict[str, Any]]:
        if not words:
            return [{"text": "", "confidence": 1.0}]
        heard: dict[str, Any] = {"confidence": finals[0].score, "text": text}
        if self._config.words:
            heard["result"] = [_place(word) for word in words]
        others = finals[0].others if len(finals) == 1 else ()
        return [heard, *({"confidence": score, "text": other} for other, score in others if other)]


def _place(word: events.Word) -> dict[str, Any]:
    return {"end": word.end, "start": word.start, "word": word.word}


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
