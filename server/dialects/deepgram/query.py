"""The query parameters of Deepgram's live and file interfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.datastructures import QueryParams

from ....streaming.config import MAX_CHANNELS, MAX_RATE, MIN_RATE, AudioFormat, Encoding, SessionConfig
from ....streaming.errors import ConfigError
from ..mapping import with_language

if TYPE_CHECKING:
    from ....streaming.recognizer import Recognizer

_ENCODINGS: Final[dict[str, Encoding]] = {
    "linear16": "pcm_s16le",
    "linear32": "pcm_f32le",
    "mulaw": "mulaw",
    "alaw": "alaw",
}
_CONTAINED: Final = ("ogg-opus",)


class Query:
    """The supported parameters; others of the service are ignored. Raises `ConfigError`."""

    def __init__(self, given: QueryParams) -> None:
        self._given = given
        self.interim = self._flag("interim_results")
        self.vad_events = self._flag("vad_events")
        self.utterances = self._flag("utterances")  # in the response for a file
        self.audio = self._audio()
        self.endpointing = self._endpointing()
        self.utterance_end_ms = self._number("utterance_end_ms", 1_000, 5_000)
        if self.utterance_end_ms is not None and not self.interim:
            raise ConfigError("utterance_end_ms needs interim_results=true")
        self._detect = [value for value in given.getlist("detect_language") if value.lower() != "false"]
        self.phrases = [
            *self._given.getlist("keyterm"),
            *(keyword.rpartition(":")[0] or keyword for keyword in self._given.getlist("keywords")),
        ]

    def with_language(self, config: SessionConfig, recognizer: Recognizer) -> SessionConfig:
        """`detect_language` names the languages that may occur, or is true: those of the server. With the language
        "multi", `language_hint` names them."""
        named = [each for each in self._detect if each.lower() != "true"]
        language = self._given.get("language")
        if language == "multi":
            named += self._given.getlist("language_hint")
        auto = bool(self._detect) or language == "multi"
        return with_language(config, recognizer, language, named, auto=auto)

    def _flag(self, name: str) -> bool:
        value = self._given.get(name, "false").lower()
        if value not in ("true", "false"):
            raise ConfigError(f"{name} is {value[:40]!r}; it must be true or false")
        return value == "true"

    def _number(self, name: str, low: int, high: int) -> int | None:
        if (value := self._given.get(name)) is None:
            return None
        if not (value.isdecimal() and len(value) < 10 and low <= int(value) <= high):
            raise ConfigError(f"{name} is {value[:40]!r}; it must be {low} to {high}")
        return int(value)

    def _endpointing(self) -> int | None:
        """Milliseconds; None: no `speech_final` at pauses."""
        match self._given.get("endpointing", "true").lower():
            case "false":
                return None
            case "true":
                return SessionConfig().hangover_ms
            case _:
                return self._number("endpointing", 0, 10_000)

    def _audio(self) -> AudioFormat | None:
        """The format of raw audio; None: WAV or a container."""
        rate = self._number("sample_rate", MIN_RATE, MAX_RATE)
        channels = self._number("channels", 1, MAX_CHANNELS) or 1
        if channels > 1 and self._flag("multichannel"):
            raise ConfigError("multichannel is not supported; omit it to have the channels averaged")
        encoding = self._given.get("encoding")
        if encoding is None or encoding in _CONTAINED:
            return None
        if encoding not in _ENCODINGS:
            known = ", ".join((*_ENCODINGS, *_CONTAINED))
            raise ConfigError(f"encoding {encoding[:40]!r} is not supported; use one of {known}")
        if rate is None:
            raise ConfigError("sample_rate is required when encoding is given")
        return AudioFormat(encoding=_ENCODINGS[encoding], sample_rate=rate, channels=channels)
