"""The settings of an OpenAI Realtime session, as clients see and change them: in the current shape (GA, nested) and
in the beta's (flat).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from ....streaming.config import AudioFormat, SessionConfig
from ....streaming.errors import ConfigError
from ..mapping import hotwords, with_language
from .shapes import turn_settings

if TYPE_CHECKING:
    from ....streaming.recognizer import Recognizer

LOGPROBS: Final = "item.input_audio_transcription.logprobs"
_BETA_FIELDS: Final = {  # names in a flat session, and in a nested one
    "input_audio_format": "format",
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
    "turn_detection": "turn_detection",
}
_BETA_FORMATS: Final = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}


@dataclass(frozen=True)
class SessionSetup:
    """`shown` is what the client sees, the rest what it means for a session here."""

    shown: dict[str, Any]  # `audio.input`
    include: list[str] | None
    audio: AudioFormat
    config: SessionConfig

    @property
    def logprobs(self) -> bool:
        return LOGPROBS in (self.include or ())

    def changed(self, session: dict[str, Any], recognizer: Recognizer) -> SessionSetup:
        """A copy with the fields that `session`, in either shape, sets. Raises `ConfigError`."""
        try:
            shown = {**self.shown, **_changes(session)}
            include = msgspec.convert(session.get("include", self.include), list[str] | None)
            audio, config = _audio(shown), turn_settings(shown["turn_detection"])
            config = _transcription(shown["transcription"], config, recognizer)
        except msgspec.ValidationError as error:
            raise ConfigError(str(error)) from None
        return SessionSetup(_with_actual_values(shown, config), include, audio, config)

    def describe(self, name: str, expires: int, *, beta: bool) -> dict[str, Any]:
        """The session as clients see it. It ends at `expires`, in seconds since 1970."""
        session: dict[str, Any] = {
            "id": f"sess_{name}",
            "object": "realtime.transcription_session",
            "expires_at": expires,
            "include": self.include,
        }
        if not beta:
            return {"type": "transcription", **session, "audio": {"input": self.shown}}
        flat = {name: self.shown[field] for name, field in _BETA_FIELDS.items()}
        kinds = {new: old for old, new in _BETA_FORMATS.items()}
        flat["input_audio_format"] = kinds[self.shown["format"]["type"]]
        return {**session, **flat, "client_secret": None}


def default_setup() -> SessionSetup:
    """The settings that a session begins with."""
    shown = {
        "format": {"type": "audio/pcm", "rate": 24_000},
        "transcription": None,
        "noise_reduction": None,
        "turn_detection": {"type": "server_vad"},
    }
    return SessionSetup(_with_actual_values(shown, SessionConfig()), None, _audio(shown), SessionConfig())


def _with_actual_values(shown: dict[str, Any], config: SessionConfig) -> dict[str, Any]:
    """Show the values in effect, where they differ from those asked for."""
    detection = shown["turn_detection"]
    if not isinstance(detection, dict) or detection["type"] != "server_vad":
        return shown
    actual = {
        "threshold": config.vad_threshold,
        "prefix_padding_ms": config.pre_roll_ms,
        "silence_duration_ms": config.hangover_ms,
    }
    return {**shown, "turn_detection": {**cast(dict[str, Any], detection), **actual}}


def _changes(session: dict[str, Any]) -> dict[str, Any]:
    """The fields of `audio.input` that `session`, in either shape, sets. Raises `ValidationError`."""
    nested = msgspec.convert(session.get("audio") or {}, dict[str, Any]).get("input")
    found = msgspec.convert(nested or {}, dict[str, Any])
    flat = {field: session[name] for name, field in _BETA_FIELDS.items() if name in session}
    detection = flat.get("turn_detection")
    if isinstance(detection, dict) and "type" not in detection:  # optional in the beta only
        flat["turn_detection"] = {"type": "server_vad", **cast(dict[str, Any], detection)}
    if isinstance(kind := flat.get("format"), str):
        flat["format"] = {"type": _BETA_FORMATS.get(kind, kind)}
    known = {**flat, **{field: value for field, value in found.items() if field in _BETA_FIELDS.values()}}
    if known.get("format", 0) is None:
        del known["format"]
    return known


def _audio(settings: dict[str, Any]) -> AudioFormat:
    form = msgspec.convert(settings["format"], dict[str, Any])
    match form.get("type"):
        case "audio/pcm":
            return AudioFormat(sample_rate=msgspec.convert(form.setdefault("rate", 24_000), int))
        case "audio/pcmu":
            return AudioFormat(encoding="mulaw", sample_rate=8_000)
        case "audio/pcma":
            return AudioFormat(encoding="alaw", sample_rate=8_000)
        case other:
            raise ConfigError(
                f"audio format {str(other)[:40]!r} is not supported; use audio/pcm, audio/pcmu or audio/pcma"
            )


def _transcription(wanted: object, config: SessionConfig, recognizer: Recognizer) -> SessionConfig:
    """The settings with the language (or several that may occur) and the keywords of `transcription`."""
    given = cast(dict[str, Any], wanted) if isinstance(wanted, dict) else {}
    language = msgspec.convert(given.get("language"), str | None)
    several = msgspec.convert(given.get("languages") or [], list[str])
    config = with_language(config, recognizer, language, several)
    phrases = msgspec.convert(given.get("keywords") or [], list[str])
    return msgspec.structs.replace(config, hotwords=hotwords(phrases, recognizer, config))
