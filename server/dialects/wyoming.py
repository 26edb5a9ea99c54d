"""The Wyoming protocol (Home Assistant), speech to text, over TCP. It has neither a token nor encryption by design."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from ...streaming.config import AudioFormat, SessionConfig
from ...streaming.errors import ConfigError
from ...streaming.live import StreamSession
from ...streaming.protocol import events
from ...streaming.protocol.codes import Code, ProtocolError
from ...streaming.recognizer import Recognizer
from .. import logs
from ..sessions.admission import Admission, Seat
from ..sessions.stream import ClientStream
from ..transport import ClientLeft, Data
from .deltas import Deltas
from .mapping import patient, writable

VERSION: Final = "1.8.0"  # of the protocol's messages that are sent
LONGEST_HEADER: Final = 1 << 16
PARTING_S: Final = 3.0  # for the client to hang up
_PAUSES: Final = {"aggressive": 300, "relaxed": 1_200}  # ms that end an utterance, by `vad_sensitivity`


class Packet(msgspec.Struct):
    """One message: a line of JSON, then so many bytes of JSON, then so many of audio."""

    type: str
    data: dict[str, Any] = {}
    data_length: int | None = None
    payload_length: int | None = None
    payload: bytes = b""


class _Sound(msgspec.Struct):
    rate: int = 16_000
    width: int = 2
    channels: int = 1


class _Wishes(msgspec.Struct):
    language: str | None = None
    vad_sensitivity: str | None = None
    transcript_names: list[str] | None = None
    transcript_terms: list[str] | None = None


class WyomingTransport:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int) -> None:
        self._reader = reader
        self._writer = writer
        self._limit = limit
        self._gone = asyncio.Event()

    async def open(self) -> None:
        """Nobody says hello."""

    async def receive(self) -> Packet:
        try:
            packet = msgspec.json.decode(await self._reader.readline(), type=Packet)
            lengths = packet.data_length or 0, packet.payload_length or 0
            if min(lengths) < 0:
                raise ClientLeft
            if sum(lengths) > self._limit:
                await self._skip(sum(lengths))
                text = f"{sum(lengths)} bytes in one message; at most {self._limit} are taken"
                raise ProtocolError(Code.MESSAGE_TOO_LARGE, text)
            if lengths[0]:
                packet.data |= msgspec.json.decode(await self._reader.readexactly(lengths[0]), type=dict[str, Any])
            if lengths[1]:
                packet.payload = await self._reader.readexactly(lengths[1])
            return packet
        except (OSError, EOFError, ValueError, msgspec.DecodeError, RecursionError) as error:
            self._gone.set()
            raise ClientLeft from error  # the end, or bytes after which no message can be found again

    async def _skip(self, count: int) -> None:
        while count > 0:
            got = len(await self._reader.read(min(count, LONGEST_HEADER)))
            if not got:
                raise ClientLeft
            count -= got

    async def send(self, data: Data) -> None:
        try:
            self._writer.write(data.encode() if isinstance(data, str) else data)
            await self._writer.drain()
        except OSError as error:
            raise ClientLeft from error

    async def close(self, code: int, reason: str) -> None:
        """To cut off a client that is still sending would cost it what it has not yet read, so it may hang up first."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(PARTING_S):
                self._writer.write_eof()
                await self._gone.wait()


class WyomingStream(ClientStream[Packet]):
    dialect = "wyoming"
    forgives = frozenset({Code.TRUNCATED_SAMPLE, Code.AUDIO_TOO_SHORT, Code.ENCODER_FAILED})

    def __init__(
        self,
        name: str,
        transport: WyomingTransport,
        seat: Seat,
    ) -> None:
        super().__init__(name, transport, seat)
        self._wishes = _Wishes()
        self._sound = _Sound()
        self._stream: StreamSession | None = None
        self._deltas: Deltas | None = None  # between audio-start and audio-stop

    async def converse(self) -> None:
        while True:
            packet = await self.next()
            match packet.type:
                case "describe":
                    self._say("info", _info(self.recognizer))
                case "ping":
                    self._say("pong", packet.data)
                case "transcribe":
                    self._wishes = _convert(packet.data, _Wishes)
                case "audio-start":
                    self._start(packet)
                case "audio-chunk":
                    await self._hear(packet)
                case "audio-stop":
                    await self._stop()
                case _:
                    pass  # others concern other services

    def _start(self, packet: Packet) -> None:
        if self._stream is None:
            self._sound = _convert(packet.data, _Sound)
            self._begin_text()

    def _begin_text(self) -> None:
        if self._deltas is None:
            self._deltas = Deltas(self.join)
            self._say("transcript-start", self._language())

    async def _hear(self, packet: Packet) -> None:
        if self._stream is None:
            self._sound = _convert(packet.data or msgspec.to_builtins(self._sound), _Sound)
            self.seat.begin(self.dialect)
            self._begin_text()
            audio = AudioFormat(sample_rate=self._sound.rate, channels=self._sound.channels)
            self._stream = self.begin(self._settings(), audio)
        width = self._sound.width
        await self.hear(packet.payload if width == 2 else _floats(packet.payload, width, self._sound.channels))

    async def _stop(self) -> None:
        """The client waits for one transcript, whatever was heard."""
        self._begin_text()
        await self.finish()
        text = self._deltas.text if self._deltas is not None else ""
        self._stream = self._deltas = None
        self._say("transcript", {"text": text, **self._language()})
        self._say("transcript-stop")
        self._wishes = _Wishes()

    def _settings(self) -> SessionConfig:
        wishes, vocabulary = self._wishes, self.recognizer.encoder.vocabulary
        phrases = (*(wishes.transcript_names or ()), *(wishes.transcript_terms or ()))
        config = SessionConfig(hotwords=writable(phrases, vocabulary))
        pause = _PAUSES.get(wishes.vad_sensitivity or "")
        return config if pause is None else patient(pause, config)

    def _language(self) -> dict[str, str]:
        language = self._wishes.language or self.recognizer.info.language
        return {} if language is None else {"language": language}

    def told(self, event: events.Event) -> None:
        match event:
            case events.Partial() if self._deltas is not None:
                self._grow(self._deltas.partial(event.committed))
            case events.Final() if self._deltas is not None:
                self._grow(self._deltas.final(event.text))
            case _:
                pass

    def _grow(self, delta: str) -> None:
        if delta:
            self._say("transcript-chunk", {"text": delta})

    def goodbye(self) -> None:
        """A server that stops in mid-speech tells what it has heard."""
        if self._stream is not None and self._deltas is not None:
            self._say("transcript", {"text": self._deltas.text, **self._language()})

    def complaint(self, error: events.Error) -> bytes:
        return _message("error", {"text": error.message, "code": error.code})

    def _say(self, kind: str, data: dict[str, Any] | None = None) -> None:
        self.say(_message(kind, data or {}))


async def listen(listener: Any, admission: Admission) -> asyncio.Server:
    """Serve Wyoming's clients on a listening socket. A client has its place from its first moment, as that of a
    websocket has, if there is one; else it may have the server described, and is refused once it sends audio.
    """
    settings, sessions = admission.settings, admission.sessions

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        logs.session.set(name := secrets.token_hex(4))
        transport = WyomingTransport(reader, writer, settings.max_message_bytes)
        peer = writer.get_extra_info("peername")  # None: it has left already
        try:
            if peer is not None and not sessions.draining and sessions.streams < settings.max_connections:
                client = admission.access.anonymous(peer[0])
                with admission.seated(client, admission.refusal(client)) as seat:
                    stream = WyomingStream(name, transport, seat)
                    with sessions.entered(stream, seat.places):
                        await stream.run()
        finally:
            writer.close()

    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] = serve
    return await asyncio.start_server(handler, sock=listener, limit=LONGEST_HEADER)


def _info(recognizer: Recognizer) -> dict[str, Any]:
    whose = {"attribution": {"name": "xlsr-live", "url": "https://pypi.org/project/xlsr-live"}, "installed": True}
    model = recognizer.info
    languages = [model.language or "en"]
    about = {"name": model.name, "description": f"{model.name} ({model.device}, {model.dtype})", "version": None}
    service = {
        **whose,
        "name": "xlsr-live",
        "description": "Streaming speech recognition on XLS-R",
        "version": VERSION,
        "models": [{**whose, **about, "languages": languages}],
        "supports_transcript_streaming": True,
        "requires_external_vad": True,
    }
    return {"asr": [service], **{kind: [] for kind in ("tts", "handle", "intent", "wake", "mic", "snd")}}


def _convert(data: dict[str, Any], to: Any) -> Any:
    try:
        return msgspec.convert(data, to)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error)) from None


def _floats(data: bytes, width: int, channels: int) -> NDArray[np.float32]:
    """Signed integers of 1, 3 or 4 bytes as samples (n, channels) in [-1, 1]."""
    if width not in (1, 3, 4) or not channels > 0:
        raise ConfigError(f"samples of {width} bytes in {channels} channels are not understood")
    whole = np.frombuffer(data[: len(data) - len(data) % (width * channels)], np.uint8).reshape(-1, width)
    wide = np.zeros((len(whole), 4), np.uint8)
    wide[:, 4 - width :] = whole
    return cast(NDArray[np.float32], (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32).reshape(-1, channels))


def _message(kind: str, data: dict[str, Any]) -> bytes:
    body = msgspec.json.encode(data) if data else b""
    head = {"type": kind, "version": VERSION} | ({"data_length": len(body)} if body else {})
    return msgspec.json.encode(head) + b"\n" + body
