"""OpenAI's Realtime protocol, transcription only, at `/v1/realtime`; in today's shapes (GA) and those of the beta.

An item is one utterance, or in manual mode all between two commits. What is committed of it goes out as deltas while it
is spoken; `completed` has the final.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec
from starlette.responses import Response
from starlette.websockets import WebSocket

from ..streaming import events
from ..streaming.config import AudioFormat, SessionConfig
from ..streaming.errors import ConfigError
from ..streaming.live import StreamSession
from .admission import Seat
from .deltas import Deltas
from .mapping import writable
from .messages import Code
from .openai_shapes import error, log_probabilities, refusal, turns
from .websocket import WebSocketStream

BETA: Final = "openai-beta.realtime-v1"
LEAST_COMMIT_S: Final = 0.1
LOGPROBS: Final = "item.input_audio_transcription.logprobs"
_TRANSCRIPTION: Final = "conversation.item.input_audio_transcription"
_UPDATES: Final = ("session.update", "transcription_session.update")
_BETA_FIELDS: Final = {  # of a flat session, and where the nested one has them
    "input_audio_format": "format",
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
    "turn_detection": "turn_detection",
}
_BETA_FORMATS: Final = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}


class _Item:
    """What is being said and not yet complete."""

    def __init__(self, name: str, deltas: Deltas, start: float) -> None:
        self.name = name
        self.deltas = deltas
        self.start = start  # seconds
        self.finals: list[events.Final] = []
        self.failed = False


class RealtimeStream(WebSocketStream):
    dialect = "openai_realtime"
    subprotocols = ("realtime",)

    def __init__(self, name: str, websocket: WebSocket, seat: Seat) -> None:
        super().__init__(name, websocket, seat)
        self._beta = websocket.headers.get("openai-beta") == "realtime=v1" or BETA in websocket.scope["subprotocols"]
        self._expires = round(time.time() + seat.settings.max_session_s)
        self._count = 0  # of what has been named
        usual = SessionConfig()
        self._setup: dict[str, Any] = {
            "format": {"type": "audio/pcm", "rate": 24_000},
            "transcription": None,
            "noise_reduction": None,
            "turn_detection": {
                "type": "server_vad",
                "threshold": usual.vad_threshold,
                "prefix_padding_ms": usual.pre_roll_ms,
                "silence_duration_ms": usual.hangover_ms,
            },
        }
        self._include: list[str] | None = None
        self._audio, self._config = _audio(self._setup), usual
        self._stream: StreamSession | None = None
        self._begun_s = 0.0  # where its audio begins
        self._committed_s = 0.0  # where the last item ended
        self._item: _Item | None = None
        self._last_item: str | None = None

    async def converse(self) -> None:
        self._tell_session("created")
        while True:
            message = _read(await self.next())
            self._asked = message.get("event_id")
            match message.get("type"):
                case "input_audio_buffer.append":
                    await self._append(message.get("audio"))
                case "input_audio_buffer.commit":
                    await self._commit()
                case "input_audio_buffer.clear":
                    await self._clear()
                case kind if kind in _UPDATES:
                    await self._update(message.get("session"))
                case None:
                    self._object("a message must be a JSON object with a type", code="invalid_json")
                case kind:
                    self._object(f"Invalid value: {str(kind)[:80]!r}", code="invalid_value", param="type")

    # ── what clients say ──

    async def _append(self, audio: object) -> None:
        try:
            data = base64.b64decode(cast(str, audio), validate=True)
        except (binascii.Error, TypeError, ValueError):
            self._object("Invalid 'audio'. Expected base64-encoded audio bytes.", code="invalid_value", param="audio")
            return
        if data:
            if self._stream is None:
                self._stream = self.begin(self._config, self._audio)
            await self.hear(data)

    async def _commit(self) -> None:
        if self._stream is not None:
            await self._stream.settle()  # what the gate ended before the commit is committed already
        waiting = self._received_s - self._committed_s
        if self._stream is None or waiting < LEAST_COMMIT_S:
            text = (
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, but buffer "
                f"only has {max(0.0, waiting * 1000):.2f}ms of audio."
            )
            self._object(text, code="input_audio_buffer_commit_empty")
            return
        before = self._last_item
        await self._stream.flush()
        await self._stream.settle()
        if self._last_item == before:  # there was no utterance to end
            self._complete(self._received_s)
        self._committed_s = self._received_s

    async def _clear(self) -> None:
        if self._stream is not None:
            await self._stream.settle()
            self._begun_s = self._committed_s = self._received_s
            self._stream = self._item = None
            await self.discard()
        self._say("input_audio_buffer.cleared")

    async def _update(self, session: object) -> None:
        if not isinstance(session, dict):
            self._object("session is missing", code="missing_required_parameter", param="session")
            return
        wanted = cast(dict[str, Any], session)
        try:
            changed = {**self._setup, **_changes(wanted)}
            audio, config = _audio(changed), turns(changed["turn_detection"])
            config = msgspec.structs.replace(config, hotwords=self._phrases(changed["transcription"]))
            include = msgspec.convert(wanted.get("include", self._include), list[str] | None)
        except (ConfigError, msgspec.ValidationError) as problem:
            self._object(str(problem), code="invalid_value", param="session")
            return
        if isinstance(changed["turn_detection"], dict) and changed["turn_detection"]["type"] == "server_vad":
            changed["turn_detection"] |= {  # as it will be, not as it was wished
                "threshold": config.vad_threshold,
                "prefix_padding_ms": config.pre_roll_ms,
                "silence_duration_ms": config.hangover_ms,
            }
        await self._change(audio, config)
        self._setup, self._include = changed, include
        self._tell_session("updated")

    async def _change(self, audio: AudioFormat, config: SessionConfig) -> None:
        """Go on with other settings. What was said before is finished, but for phrases, which change in mid-speech."""
        only_phrases = audio == self._audio and config == msgspec.structs.replace(
            self._config, hotwords=config.hotwords
        )
        if only_phrases and self._stream is not None and config.hotwords != self._config.hotwords:
            await self._stream.set_hotwords(config.hotwords)
        elif not only_phrases and self._stream is not None:
            await self.finish()
            self._begun_s = self._committed_s = self._received_s
            self._stream = None
        self._audio, self._config = audio, config

    def _phrases(self, transcription: object) -> tuple[str, ...]:
        keywords = cast(dict[str, Any], transcription).get("keywords") if isinstance(transcription, dict) else None
        return writable(msgspec.convert(keywords or [], list[str]), self.recognizer.encoder.vocabulary)

    @property
    def _received_s(self) -> float:
        """Seconds of audio since the client connected."""
        return self._begun_s + (self._stream.received_s if self._stream is not None else 0.0)

    # ── what is said ──

    def told(self, event: events.Event) -> None:
        match event:
            case events.SpeechStarted():
                self._begin_item(self._begun_s + event.start)
            case events.Partial() if self._item is not None:
                self._grow(self._item, self._item.deltas.partial(event.committed))
            case events.Final() if self._item is not None:
                self._item.finals.append(event)
                self._grow(self._item, self._item.deltas.final(event.text))
            case events.SpeechEnded() if self._gated or event.reason != "length":
                self._complete(self._begun_s + event.end)
            case _:
                pass

    @property
    def _gated(self) -> bool:
        return self._config.vad != "none"

    def _begin_item(self, start: float) -> None:
        if self._item is not None:  # the second utterance of a long item does not begin another
            return
        self._item = _Item(self._name("item"), Deltas(self.join), start)
        if self._gated:
            at = round(start * 1000)
            self._say("input_audio_buffer.speech_started", item_id=self._item.name, audio_start_ms=at)

    def _grow(self, item: _Item, delta: str) -> None:
        if delta:
            self._say(f"{_TRANSCRIPTION}.delta", item_id=item.name, content_index=0, delta=delta)

    def _complete(self, end: float) -> None:
        heard = self._item is not None
        item = self._item or _Item(self._name("item"), Deltas(self.join), self._committed_s)
        self._item, before = None, self._last_item
        self._committed_s, self._last_item = max(end, self._committed_s), item.name
        if heard and self._gated:
            at = round(end * 1000)
            self._say("input_audio_buffer.speech_stopped", item_id=item.name, audio_end_ms=at)
        self._say("input_audio_buffer.committed", item_id=item.name, previous_item_id=before)
        message = {
            "id": item.name,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        for kind in ("created",) if self._beta else ("added", "done"):
            self._say(f"conversation.item.{kind}", previous_item_id=before, item=message)
        if item.failed and not item.finals:
            why = error("the model failed on this audio", code="audio_unintelligible", kind="transcription_error")
            self._say(f"{_TRANSCRIPTION}.failed", item_id=item.name, content_index=0, error=why)
            return
        vocabulary = self.recognizer.encoder.vocabulary
        wants = LOGPROBS in (self._include or ())
        self._say(
            f"{_TRANSCRIPTION}.completed",
            item_id=item.name,
            content_index=0,
            transcript=item.deltas.text,
            usage={"type": "duration", "seconds": round(end - item.start, 3)},
            **({"logprobs": log_probabilities(item.finals, vocabulary.separator)} if wants else {}),
        )

    def forgives_error(self, problem: events.Error) -> bool:
        if problem.code == Code.ENCODER_FAILED and self._item is not None:
            self._item.failed = True
        return problem.code in (Code.TRUNCATED_SAMPLE, Code.AUDIO_TOO_SHORT, Code.ENCODER_FAILED)

    def complaint(self, error: events.Error) -> str:
        ours = error.code in (Code.INTERNAL_ERROR, Code.ENCODER_FAILED)
        return self._error(error.message, code=error.code, kind="server_error" if ours else "")

    @staticmethod
    def refused(code: Code, why: str | None = None) -> Response:
        return refusal(code, why)

    _asked: object = None  # the client's name for the message being answered

    def _object(self, text: str, **fields: Any) -> None:
        """The session stays open."""
        self.say(self._error(text, **fields))

    def _error(self, text: str, **fields: Any) -> str:
        asked = self._asked if isinstance(self._asked, str) else None
        return self._event("error", error={**error(text, **fields), "event_id": asked})

    def _tell_session(self, what: str) -> None:
        shown: dict[str, Any] = {
            "id": f"sess_{self.name}",
            "object": "realtime.transcription_session",
            "expires_at": self._expires,
            "include": self._include,
        }
        if self._beta:
            flat = {name: self._setup[field] for name, field in _BETA_FIELDS.items()}
            kinds = {new: old for old, new in _BETA_FORMATS.items()}
            flat["input_audio_format"] = kinds[self._setup["format"]["type"]]
            self._say(f"transcription_session.{what}", session={**shown, **flat, "client_secret": None})
        else:
            self._say(f"session.{what}", session={"type": "transcription", **shown, "audio": {"input": self._setup}})

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self.name}{self._count:06}"

    def _event(self, kind: str, **fields: Any) -> str:
        return msgspec.json.encode({"type": kind, "event_id": self._name("event"), **fields}).decode()

    def _say(self, kind: str, **fields: Any) -> None:
        self.say(self._event(kind, **fields))


def _read(data: str | bytes) -> Mapping[str, Any]:
    """A message; nothing if it is none."""
    try:
        message = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):  # the latter: of a binary message
        return {}
    return cast(dict[str, Any], message) if isinstance(message, dict) else {}


def _changes(session: dict[str, Any]) -> dict[str, Any]:
    """The fields of `audio.input` that a session in either shape sets. Raises `ValidationError`."""
    nested = msgspec.convert(session.get("audio") or {}, dict[str, Any]).get("input")
    found = msgspec.convert(nested or {}, dict[str, Any])
    flat = {field: session[name] for name, field in _BETA_FIELDS.items() if name in session}
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
                f"audio format {str(other)[:40]!r} is not supported; audio/pcm, audio/pcmu, audio/pcma are"
            )
