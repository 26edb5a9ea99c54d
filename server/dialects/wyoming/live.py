"""Wyoming's speech to text: `audio-start`, `audio-chunk` and `audio-stop` in, one `transcript` out."""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from ....streaming.config import AudioFormat, SessionConfig
from ....streaming.errors import ConfigError
from ....streaming.languages import bcp47
from ....streaming.live import StreamSession
from ....streaming.protocol import events
from ....streaming.protocol.codes import Code
from ....streaming.recognizer import Recognizer
from ...sessions.admission import Lease
from ..base import Dialect
from ..deltas import Deltas
from ..mapping import hotwords, with_language, with_pause
from .packets import WYOMING_VERSION, Packet, WyomingTransport, encode_packet

_PAUSES: Final = {"aggressive": 300, "relaxed": 1_200}  # ms that end an utterance, by `vad_sensitivity`


class _SampleFormat(msgspec.Struct):
    rate: int = 16_000
    width: int = 2
    channels: int = 1


class _Transcribe(msgspec.Struct):
    language: str | None = None
    vad_sensitivity: str | None = None
    transcript_names: list[str] | None = None
    transcript_terms: list[str] | None = None


class WyomingDialect(Dialect[Packet]):
    """A transcription in the Wyoming protocol."""

    dialect = "wyoming"
    ignored_errors = frozenset({Code.TRUNCATED_SAMPLE, Code.AUDIO_TOO_SHORT, Code.ENCODER_FAILED})

    def __init__(self, name: str, transport: WyomingTransport, lease: Lease) -> None:
        super().__init__(name, transport, lease)
        self._request = _Transcribe()
        self._format = _SampleFormat()
        self._stream: StreamSession | None = None
        self._deltas: Deltas | None = None  # between audio-start and audio-stop

    async def handle_messages(self) -> None:
        while True:
            packet = await self.next_message()
            match packet.type:
                case "describe":
                    self._send("info", _info(self.recognizer))
                case "ping":
                    self._send("pong", packet.data)
                case "transcribe":
                    self._request = _convert(packet.data, _Transcribe)
                case "audio-start":
                    self._start(packet)
                case "audio-chunk":
                    await self._receive(packet)
                case "audio-stop":
                    await self._stop()
                case _:
                    pass  # packets of other Wyoming services

    def _start(self, packet: Packet) -> None:
        if self._stream is None:
            self._format = _convert(packet.data, _SampleFormat)
            self._begin_transcript()

    def _begin_transcript(self) -> None:
        if self._deltas is None:
            self._deltas = Deltas(self.join)
            self._send("transcript-start", self._language())

    async def _receive(self, packet: Packet) -> None:
        if self._stream is None:
            self._format = _convert(packet.data or msgspec.to_builtins(self._format), _SampleFormat)
            self.lease.start(self.dialect)
            self._begin_transcript()
            audio = AudioFormat(sample_rate=self._format.rate, channels=self._format.channels)
            self._stream = await self.begin_session(await asyncio.to_thread(self._settings), audio)
        width = self._format.width
        await self.send_audio(packet.payload if width == 2 else _floats(packet.payload, width, self._format.channels))

    async def _stop(self) -> None:
        """Send one transcript, even an empty one: the client waits for it."""
        self._begin_transcript()
        await self.finish_session()
        text = self._deltas.text if self._deltas is not None else ""
        self._stream = self._deltas = None
        self._send("transcript", {"text": text, **self._language()})
        self._send("transcript-stop")
        self._request, self.language = _Transcribe(), None

    def _settings(self) -> SessionConfig:
        request = self._request
        phrases = (*(request.transcript_names or ()), *(request.transcript_terms or ()))
        config = with_language(SessionConfig(), self.recognizer, request.language)
        config = msgspec.structs.replace(config, hotwords=hotwords(phrases, self.recognizer, config))
        pause = _PAUSES.get(request.vad_sensitivity or "")
        return config if pause is None else with_pause(pause, config)

    def _language(self) -> dict[str, str]:
        language = self.tag or self._request.language or self.recognizer.info.language
        return {} if language is None else {"language": language}

    def on_event(self, event: events.Event) -> None:
        match event:
            case events.Partial() if self._deltas is not None:
                self._send_chunk(self._deltas.partial(event.committed))
            case events.Final() if self._deltas is not None:
                self._send_chunk(self._deltas.final(event.text))
            case _:
                pass

    def _send_chunk(self, delta: str) -> None:
        if delta:
            self._send("transcript-chunk", {"text": delta})

    def on_end(self) -> None:
        """When the server stops before `audio-stop`, the client still gets its transcript."""
        if self._stream is not None and self._deltas is not None:
            self._send("transcript", {"text": self._deltas.text, **self._language()})

    def encode_error(self, error: events.Error) -> bytes:
        return encode_packet("error", {"text": error.message, "code": error.code})

    def _send(self, kind: str, data: dict[str, Any] | None = None) -> None:
        self.send(encode_packet(kind, data or {}))


def _info(recognizer: Recognizer) -> dict[str, Any]:
    origin = {"attribution": {"name": "xlsr-live", "url": "https://pypi.org/project/xlsr-live"}, "installed": True}
    model = recognizer.info
    known = recognizer.languages.known
    languages = list(dict.fromkeys(map(bcp47, known))) if known else [model.language or "en"]
    about = {"name": model.name, "description": f"{model.name} ({model.device}, {model.dtype})", "version": None}
    service = {
        **origin,
        "name": "xlsr-live",
        "description": "Streaming speech recognition on XLS-R",
        "version": WYOMING_VERSION,
        "models": [{**origin, **about, "languages": languages}],
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
        raise ConfigError(f"samples of {width} bytes in {channels} channels are not supported")
    whole = np.frombuffer(data[: len(data) - len(data) % (width * channels)], np.uint8).reshape(-1, width)
    wide = np.zeros((len(whole), 4), np.uint8)
    wide[:, 4 - width :] = whole
    return cast(NDArray[np.float32], (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32).reshape(-1, channels))
