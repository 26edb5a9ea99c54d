"""The protocol of alphacep's vosk-server: every binary message gets exactly one text message in reply.

As in the original, a reply covers all audio up to the message that it answers. So a client that waits for replies sends
a file as fast as it is recognized, and finds every final in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from starlette.websockets import WebSocket

from ....streaming.audio.wav_stream import WavStream
from ....streaming.config import MAX_RATE, MIN_RATE, AudioFormat, SessionConfig
from ....streaming.errors import ConfigError, GrammarError
from ....streaming.live import StreamSession
from ....streaming.protocol import events
from ....streaming.protocol.codes import Code, ProtocolError
from ...sessions.admission import Lease
from ..mapping import with_language
from ..websocket import WebSocketDialect
from .phrases import SLOT, PhraseList

LONGEST_REASON: Final = 123  # bytes of a close frame's reason (RFC 6455)


class VoskConfig(msgspec.Struct):
    """`config`; other fields, such as the name of a model, are ignored."""

    sample_rate: float | None = None
    words: bool | int = True
    max_alternatives: int = 0
    phrase_list: list[str] = []
    language: str | None = None  # not of the original


class _Command(msgspec.Struct):
    config: dict[str, Any] | None = None
    eof: Any = None
    reset: Any = None


class _Utterance(NamedTuple):
    """One utterance as a result shows it."""

    words: Sequence[events.Word]
    score: float
    others: Sequence[tuple[str, float]] = ()  # alternative texts with their scores


class VoskDialect(WebSocketDialect):
    """A live stream in Vosk's protocol."""

    dialect = "vosk"
    ignored_errors = frozenset({Code.TRUNCATED_SAMPLE, Code.AUDIO_TOO_SHORT, Code.ENCODER_FAILED})

    def __init__(self, name: str, websocket: WebSocket, lease: Lease) -> None:
        super().__init__(name, websocket, lease)
        self._options: dict[str, Any] = {}
        self._config = VoskConfig()
        self._wav = WavStream()
        self._stream: StreamSession | None = None
        self._phrases: PhraseList | None = None
        self._open: _Utterance | None = None  # the utterance that is ending
        self._finals: list[_Utterance] = []  # not yet in any reply
        self._partial = ""
        self._eof = False  # the client waits for the last result
        self._problem = ""  # the error that ends the session

    async def handle_messages(self) -> None:
        while True:
            data = await self.next_message()
            if isinstance(data, bytes):
                await self._receive(self._wav.receive(data))
                await self.outbox.room()  # a client that sends first and reads later has to wait; it is not dropped
                self.send(self._result() if self._finals else _json({"partial": self._partial}))
                continue
            command = _parse(data)
            if command.config is not None:
                self._options |= {
                    name: command.config[name] for name in VoskConfig.__struct_fields__ if name in command.config
                }
                if self._stream is None:  # ignored after the first audio, as in the original
                    self._config = _convert(self._options)
                elif "language" in command.config and self._phrases is None:
                    wanted = with_language(SessionConfig(), self.recognizer, _convert(self._options).language)
                    await self._stream.set_language(wanted.language)
            elif command.eof:
                self._eof = True
                return
            elif command.reset:
                if self._stream is not None:
                    await self._stream.flush()
                    await self._stream.settle()
                self.send(self._result())
            else:
                raise ProtocolError(Code.UNKNOWN_TYPE, "text messages hold config, reset or eof")

    def on_event(self, event: events.Event) -> None:
        match event:
            case events.Partial():
                self._partial = self.join(*(word.word for word in self._sieved(event.words)))
            case events.Final():
                ranked = [(one.text, one.score) for one in event.nbest or ()]
                score = ranked[0][1] if ranked else event.confidence
                self._open = _Utterance(self._sieved(event.words), score, ranked[1:])
            case events.Command():  # replaces the text decoded without the grammar
                others = [(str(one.slots[SLOT]), one.score) for one in event.alternatives or ()]
                self._open = _Utterance(self._sieved(event.words), event.score, others)
            case events.SpeechEnded():
                self._finals += [] if self._open is None else [self._open]
                self._open, self._partial = None, ""
            case _:
                pass

    def _sieved(self, words: Sequence[events.Word]) -> Sequence[events.Word]:
        return words if self._phrases is None else list(self._phrases.sieve(words))

    def encode_error(self, error: events.Error) -> None:
        """There are no error messages: the close frame says what is wrong."""
        self._problem = error.message

    def close_frame(self, code: str) -> tuple[int, str]:
        number, reason = super().close_frame(code)
        cut = (self._problem or reason).encode()[:LONGEST_REASON].decode(errors="ignore")
        return (number if number in (1012, 1013) else 1011), cut

    def on_end(self) -> None:
        if self._eof or self._finals:
            self.send(self._result())

    async def _receive(self, samples: bytes) -> None:
        if not samples:
            return
        if self._stream is None:
            audio = self._wav.format or self._declared()
            settings = await asyncio.to_thread(self._settings)  # a language may have to be loaded
            try:
                await self.recognizer.prepare(settings)
            except GrammarError:  # too many words: the sieve alone removes other words
                settings = msgspec.structs.replace(settings, grammar="")
            self._stream = await self.begin_session(settings, audio)
        await self.send_audio(samples)
        await self._stream.settle()

    def _declared(self) -> AudioFormat:
        rate = self._config.sample_rate or self.settings.vosk_rate
        if not MIN_RATE <= rate <= MAX_RATE:  # "inf" and "nan" count as numbers
            raise ConfigError(f"sample_rate is {rate:g}; it must be {MIN_RATE} to {MAX_RATE} Hz")
        return AudioFormat(sample_rate=round(rate))

    def _settings(self) -> SessionConfig:
        wanted = min(max(0, self._config.max_alternatives), 50)
        config = with_language(SessionConfig(), self.recognizer, self._config.language)
        codes = self.recognizer.languages.codes(config.language)
        if self._config.phrase_list and len(codes) == 1:
            self._phrases = PhraseList(self._config.phrase_list, self.recognizer.languages.vocabulary(codes[0]))
            return msgspec.structs.replace(self._phrases.settings(wanted), language=config.language)
        nbest = wanted if self.recognizer.assets.language_model is not None else 0
        return msgspec.structs.replace(config, nbest=nbest)

    def _result(self) -> str:
        """All utterances since the last result. Several, as after a long message, become one result."""
        finals, self._finals = self._finals, []
        words = [word for final in finals for word in final.words]
        text = self.join(*(word.word for word in words))
        if self._config.max_alternatives > 0:
            return _json({"alternatives": self._alternatives(finals, words, text)})
        result = [{"conf": word.confidence, **_timed(word)} for word in words]
        timed = {"result": result} if result and self._config.words else {}
        language = {"language": self.tag} if words and self.tag else {}
        return _json({**timed, "text": text, **language})

    def _alternatives(self, finals: list[_Utterance], words: list[events.Word], text: str) -> list[dict[str, Any]]:
        if not words:
            return [{"text": "", "confidence": 1.0}]
        best: dict[str, Any] = {"confidence": finals[0].score, "text": text}
        if self._config.words:
            best["result"] = [_timed(word) for word in words]
        others = finals[0].others if len(finals) == 1 else ()
        return [best, *({"confidence": score, "text": other} for other, score in others if other)]


def _timed(word: events.Word) -> dict[str, Any]:
    return {"end": word.end, "start": word.start, "word": word.word}


def _parse(text: str) -> _Command:
    try:
        return msgspec.json.decode(text, type=_Command)
    except msgspec.ValidationError as error:
        raise ProtocolError(Code.BAD_MESSAGE, str(error)) from None
    except msgspec.DecodeError as error:
        raise ProtocolError(Code.NOT_JSON, str(error)) from None


def _convert(options: dict[str, Any]) -> VoskConfig:
    try:
        return msgspec.convert(options, VoskConfig, strict=False)
    except msgspec.ValidationError as error:
        raise ProtocolError(Code.BAD_MESSAGE, str(error)) from None


def _json(message: dict[str, Any]) -> str:
    return msgspec.json.encode(message).decode()
