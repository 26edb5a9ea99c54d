"""OpenAI's Realtime protocol, transcription only, at `/v1/realtime`: the current shapes (GA) and those of the beta.

Committed text goes out as deltas while it is spoken; `completed` has the final text.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec
from msgspec.structs import replace
from starlette.websockets import WebSocket

from ....streaming.config import SessionConfig
from ....streaming.errors import ConfigError, ModelError
from ....streaming.live import StreamSession
from ....streaming.protocol import events
from ....streaming.protocol.codes import Code
from ...sessions.admission import Lease
from ..websocket import WebSocketDialect
from . import keys as openai_keys
from .items import Items
from .session_setup import SessionSetup, default_setup
from .shapes import error

BETA: Final = "openai-beta.realtime-v1"
LEAST_COMMIT_S: Final = 0.1


class RealtimeDialect(WebSocketDialect):
    """A session in OpenAI's Realtime protocol."""

    dialect = "openai_realtime"
    subprotocols = ("realtime",)

    def __init__(self, name: str, websocket: WebSocket, lease: Lease) -> None:
        super().__init__(name, websocket, lease)
        self.idle.limit_s = lease.settings.max_session_s  # a push-to-talk client may be silent for long
        self._intent = websocket.query_params.get("intent")
        self._beta = websocket.headers.get("openai-beta") == "realtime=v1" or BETA in websocket.scope["subprotocols"]
        self._expires = round(time.time() + lease.settings.max_session_s)
        self._names = 0  # given so far
        self._setup = default_setup()
        self._key_settings = openai_keys.settings(websocket)
        if self._key_settings:
            self._intent = "transcription"
        self._stream: StreamSession | None = None
        self._begun_s = 0.0  # where its audio begins, in seconds since the client connected
        self._items = Items(
            self._send,
            self._name,
            self.join,
            lambda final: self.recognizer.languages.vocabulary(final.language or None).separator,
            beta=self._beta,
        )
        self._answered: object = None  # the client's id of the message that is being handled

    async def handle_messages(self) -> None:
        if self._key_settings:
            self._setup = await self._changed(self._key_settings)
        self._send_session("transcription_session" if self._intent == "transcription" else "session", "created")
        while True:
            message = _parse(await self.next_message())
            self._answered = message.get("event_id")
            match message.get("type"):
                case "input_audio_buffer.append":
                    await self._append(message.get("audio"))
                case "input_audio_buffer.commit":
                    await self._commit()
                case "input_audio_buffer.clear":
                    await self._clear()
                case ("session.update" | "transcription_session.update") as kind:
                    await self._update(kind.removesuffix(".update"), message.get("session"))
                case None:
                    self._send_error("a message must be a JSON object with a type", code="invalid_json")
                case kind:
                    self._send_error(f"Invalid value: {str(kind)[:80]!r}", code="invalid_value", param="type")

    # ── messages of the client ──

    async def _append(self, audio: object) -> None:
        try:
            data = base64.b64decode(cast(str, audio), validate=True)
        except (binascii.Error, TypeError, ValueError):
            text = "Invalid 'audio'. Expected base64-encoded audio bytes."
            self._send_error(text, code="invalid_value", param="audio")
            return
        if data:
            if self._stream is None:
                self._stream = await self.begin_session(self._setup.config, self._setup.audio)
            await self.send_audio(data)

    async def _commit(self) -> None:
        if self._stream is not None:
            await self._stream.settle()  # utterances that the gate ended before are committed already
        waiting = self._received_s - self._items.committed_s
        if self._stream is None or waiting < LEAST_COMMIT_S:
            text = (
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, but buffer "
                f"only has {max(0.0, waiting * 1000):.2f}ms of audio."
            )
            self._send_error(text, code="input_audio_buffer_commit_empty")
            return
        before = self._items.last
        await self._stream.flush()
        await self._stream.settle()
        if self._items.last == before:  # manual mode, or no utterance was open
            self._complete(self._received_s)
        self._items.committed_s = self._received_s

    async def _clear(self) -> None:
        if self._stream is not None:
            await self._stream.settle()
            self._begun_s = self._received_s
            self._items.discard(self._begun_s)
            self._stream = None
            await self.discard_session()
        self._send("input_audio_buffer.cleared")

    async def _update(self, kind: str, session: object) -> None:
        if not isinstance(session, dict):
            self._send_error("session is missing", code="missing_required_parameter", param="session")
            return
        try:
            setup = await self._changed(cast(dict[str, Any], session))
            if setup.config.language is not None:  # load it, or refuse it now
                await self.recognizer.prepare(setup.config)
            await self._change(setup)
        except (ConfigError, ModelError) as problem:
            self._send_error(str(problem), code="invalid_value", param="session")
            return
        self._send_session(kind, "updated")

    async def _changed(self, session: dict[str, Any]) -> SessionSetup:
        """The settings with those of `session`, made in a thread: keywords may load a language."""
        return await asyncio.to_thread(self._setup.changed, session, self.recognizer)

    async def _change(self, setup: SessionSetup) -> None:
        """Change the settings. Only hotwords and languages can change in an open session; otherwise it is finished."""
        before = self._setup.config
        changed = {name: getattr(setup.config, name) for name in ("hotwords", "language", "allowed_languages")}
        same = replace(before, **changed) == setup.config and self._setup.audio == setup.audio
        if self._stream is not None and not same:
            await self.finish_session()
            self._begun_s = self._items.committed_s = self._received_s
            self._stream = None
        elif self._stream is not None:
            await self._change_open(self._stream, before, setup.config)
        self._setup = setup

    @staticmethod
    async def _change_open(stream: StreamSession, before: SessionConfig, after: SessionConfig) -> None:
        hotwords = before.hotwords
        if (before.language, before.allowed_languages) != (after.language, after.allowed_languages):
            if hotwords:  # those of before may not fit the other language
                await stream.set_hotwords(hotwords := ())
            await stream.set_language(after.language, after.allowed_languages)
        if hotwords != after.hotwords:
            await stream.set_hotwords(after.hotwords)

    @property
    def _received_s(self) -> float:
        """Seconds of audio since the client connected."""
        return self._begun_s + (self._stream.received_s if self._stream is not None else 0.0)

    # ── events of the session ──

    def on_event(self, event: events.Event) -> None:
        match event:
            case events.SpeechStarted():
                self._items.begin(self._begun_s + event.start, gated=self._gated)
            case events.Partial():
                self._items.add_partial(event.committed)
            case events.Final():
                self._items.add_final(event)
            case events.SpeechEnded() if self._gated or event.reason == "end":  # else only a commit ends an item
                self._complete(self._begun_s + event.end)
            case _:
                pass

    @property
    def _gated(self) -> bool:
        return self._setup.config.vad != "none"

    def _complete(self, end: float) -> None:
        self._items.complete(end, gated=self._gated, logprobs=self._setup.logprobs)

    def ignores_error(self, error: events.Error) -> bool:
        if error.code == Code.ENCODER_FAILED:
            self._items.fail()
        return error.code in (Code.TRUNCATED_SAMPLE, Code.AUDIO_TOO_SHORT, Code.ENCODER_FAILED)

    def encode_error(self, error: events.Error) -> str:
        ours = error.code in (Code.INTERNAL_ERROR, Code.ENCODER_FAILED)
        return self._encode_error(error.message, code=error.code, kind="server_error" if ours else "")

    # ── messages of the server ──

    def _send_error(self, text: str, **fields: Any) -> None:
        """The session stays open."""
        self.send(self._encode_error(text, **fields))

    def _encode_error(self, text: str, **fields: Any) -> str:
        answered = self._answered if isinstance(self._answered, str) else None
        return self._encode("error", error={**error(text, **fields), "event_id": answered})

    def _send_session(self, kind: str, what: str) -> None:
        """`kind` matters in the beta, where only `transcription_session` is for transcription alone."""
        session = self._setup.describe(self.name, self._expires, beta=self._beta)
        if self._beta:
            self._send(f"{kind}.{what}", session=session | {"object": f"realtime.{kind}"})
        else:
            self._send(f"session.{what}", session=session)

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}_{self.name}{self._names:06}"

    def _encode(self, kind: str, **fields: Any) -> str:
        return msgspec.json.encode({"type": kind, "event_id": self._name("event"), **fields}).decode()

    def _send(self, kind: str, /, **fields: Any) -> None:
        self.send(self._encode(kind, **fields))


def _parse(data: str | bytes) -> Mapping[str, Any]:
    """The message, or {} if it is not a JSON object."""
    try:
        message = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):  # the latter for a binary message
        return {}
    return cast(dict[str, Any], message) if isinstance(message, dict) else {}
