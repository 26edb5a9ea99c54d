"""What Deepgram's live and file interfaces have in common: settings in the address, and how words, the model and
refusals look.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse, Response

from ....streaming.config import AudioFormat, Encoding, SessionConfig
from ....streaming.errors import ConfigError
from ....streaming.protocol.codes import Code
from ....streaming.protocol.events import Word
from ...refusals import HTTP_STATUSES, WHY, headers

if TYPE_CHECKING:
    from ....streaming.model.encoder import ModelInfo

_ENCODINGS: Final[dict[str, Encoding]] = {
    "linear16": "pcm_s16le",
    "linear32": "pcm_f32le",
    "mulaw": "mulaw",
    "alaw": "alaw",
}
_CONTAINED: Final = ("ogg-opus",)
_REFUSALS: Final[dict[str, str]] = {
    Code.UNAUTHORIZED: "INVALID_AUTH",
    Code.FORBIDDEN_ORIGIN: "INSUFFICIENT_PERMISSIONS",
    Code.BAD_CONFIG: "Bad Request",
}


class Query:
    """The parameters in use; the service has many more, which are ignored. Raises `ConfigError`."""

    def __init__(self, given: QueryParams) -> None:
        self._given = given
        self.interim = self._flag("interim_results")
        self.vad_events = self._flag("vad_events")
        self.utterances = self._flag("utterances")  # of files
        self.audio = self._audio()
        self.endpointing = self._endpointing()
        self.utterance_end_ms = self._number("utterance_end_ms", 1_000, 5_000)
        if self.utterance_end_ms is not None and not self.interim:
            raise ConfigError("utterance_end_ms needs interim_results=true")
        self.phrases = [
            *self._given.getlist("keyterm"),
            *(keyword.rpartition(":")[0] or keyword for keyword in self._given.getlist("keywords")),
        ]

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
        """Milliseconds; None: pauses are not told."""
        match self._given.get("endpointing", "true").lower():
            case "false":
                return None
            case "true":
                return SessionConfig().hangover_ms
            case _:
                return self._number("endpointing", 0, 10_000)

    def _audio(self) -> AudioFormat | None:
        """None: the audio is in a container, or WAV."""
        rate, channels = self._number("sample_rate", 1, 1_000_000), self._number("channels", 1, 100) or 1
        if channels > 1 and self._flag("multichannel"):
            raise ConfigError("multichannel is not supported; without it channels are averaged to one")
        encoding = self._given.get("encoding")
        if encoding is None or encoding in _CONTAINED:
            return None
        if encoding not in _ENCODINGS:
            known = ", ".join((*_ENCODINGS, *_CONTAINED))
            raise ConfigError(f"encoding {encoding[:40]!r} is not supported; {known} are")
        if rate is None:
            raise ConfigError("sample_rate is required when encoding is given")
        return AudioFormat(encoding=_ENCODINGS[encoding], sample_rate=rate, channels=channels)


def words(said: Iterable[Word]) -> list[dict[str, Any]]:
    return [
        {
            "word": word.word.lower(),
            "start": word.start,
            "end": word.end,
            "confidence": word.confidence,
            "punctuated_word": word.word,
        }
        for word in said
    ]


def model_info(info: ModelInfo) -> dict[str, str]:
    return {"name": info.name, "version": info.language or "-", "arch": "wav2vec2-ctc"}


def model_id(info: ModelInfo) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, info.name))


def metadata(request: str, sha256: str, duration: float, channels: int) -> dict[str, Any]:
    return {
        "transaction_key": "deprecated",
        "request_id": request,
        "sha256": sha256,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "duration": duration,
        "channels": channels,
    }


def refusal(code: str, why: str | None = None) -> Response:
    said = why or WHY[code]
    body = {"err_code": _REFUSALS.get(code, code), "err_msg": said, "request_id": str(uuid.uuid4())}
    plain = said.encode("ascii", "backslashreplace").decode()
    return JSONResponse(body, HTTP_STATUSES.get(code, 400), {"dg-error": plain, **headers(code)})
