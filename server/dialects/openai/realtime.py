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
from msgspec.structs import replace
from starlette.websockets import WebSocket

from ....streaming.errors import ConfigError
from ....streaming.live import StreamSession
from ....streaming.protocol import events
from ....streaming.protocol.codes import Code
from ...sessions.admission import Seat
from ...sessions.websocket import WebSocketStream
from ..deltas import Deltas
from . import keys as openai_keys
from .setup import Setup, usual
from .shapes import error, log_probabilities

BETA: Final = "openai-beta.realtime-v1"
LEAST_COMMIT_S: Final = 0.1
_TRANSCRIPTION: Final = "conversation.item.input_audio_transcription"
_UPDATES: Final = ("session.update", "transcription_session.update")


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
        self.idle_timeout_s = seat.settings.max_session_s  # who pushes to talk may say nothing for long
        self._beta = websocket.headers.get("openai-beta") == "realtime=v1" or BETA in websocket.scope["subprotocols"]
        self._expires = round(time.time() + seat.settings.max_session_s)
        self._count = 0  # of what has been named
        self._setup = usual()
        if settings := openai_keys.settings(websocket):
            self._setup = self._setup.changed(settings, self.recognizer.encoder.vocabulary)
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
                self._stream = self.begin(self._setup.config, self._setup.audio)
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
        try:
            setup = self._setup.changed(cast(dict[str, Any], session), self.recognizer.encoder.vocabulary)
        except ConfigError as problem:
            self._object(str(problem), code="invalid_value", param="session")
            return
        await self._change(setup)
        self._tell_session("updated")

    async def _change(self, setup: Setup) -> None:
        """Go on with other settings. What was said before is finished, but for phrases, which change in mid-speech."""
        phrases, before = setup.config.hotwords, self._setup.config.hotwords
        same = replace(self._setup.config, hotwords=phrases) == setup.config and self._setup.audio == setup.audio
        if self._stream is not None and not same:
            await self.finish()
            self._begun_s = self._committed_s = self._received_s
            self._stream = None
        elif self._stream is not None and phrases != before:
            await self._stream.set_hotwords(phrases)
        self._setup = setup

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
        return self._setup.config.vad != "none"

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
        self._say(
            f"{_TRANSCRIPTION}.completed",
            item_id=item.name,
            content_index=0,
            transcript=item.deltas.text,
            usage={"type": "duration", "seconds": round(end - item.start, 3)},
            **({"logprobs": log_probabilities(item.finals, vocabulary.separator)} if self._setup.logprobs else {}),
        )

    def forgives_error(self, problem: events.Error) -> bool:
        if problem.code == Code.ENCODER_FAILED and self._item is not None:
            self._item.failed = True
        return problem.code in (Code.TRUNCATED_SAMPLE, Code.AUDIO_TOO_SHORT, Code.ENCODER_FAILED)

    def complaint(self, error: events.Error) -> str:
        ours = error.code in (Code.INTERNAL_ERROR, Code.ENCODER_FAILED)
        return self._error(error.message, code=error.code, kind="server_error" if ours else "")

    _asked: object = None  # the client's name for the message being answered

    def _object(self, text: str, **fields: Any) -> None:
        """The session stays open."""
        self.say(self._error(text, **fields))

    def _error(self, text: str, **fields: Any) -> str:
        asked = self._asked if isinstance(self._asked, str) else None
        return self._event("error", error={**error(text, **fields), "event_id": asked})

    def _tell_session(self, what: str) -> None:
        kind = "transcription_session" if self._beta else "session"
        self._say(f"{kind}.{what}", session=self._setup.told(self.name, self._expires, beta=self._beta))

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
