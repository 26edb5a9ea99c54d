"""Live audio of a microphone, through PortAudio.

PortAudio calls back on its own thread, which must never wait. A queue of `QUEUE_SECONDS` separates it from the
recognizer; a full queue drops and counts new audio.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import numpy as np

from ...streaming.config import MAX_CHANNELS, AudioFormat
from ...streaming.frames import SAMPLE_RATE
from ...streaming.quiet import quiet
from ..pump import Block
from .devices import Device, MicrophoneError, choose, input_devices, no_devices, portaudio

BLOCK_SECONDS: Final = 0.05
QUEUE_SECONDS: Final = 30.0
BUSY: Final = -9985  # paDeviceUnavailable


class Microphone:
    """An input device, by number or part of its name. It records from the first call of `blocks`.

    Records 16 kHz mono if the device supports it, else the device's own rate and channels, which the recognizer
    converts. Raises `MicrophoneError`.
    """

    def __init__(self, wanted: str | None = None) -> None:
        sounddevice = portaudio()
        self.device = choose(input_devices(), wanted)
        self.dropped = 0.0  # seconds lost because the queue was full
        self.silence = 0.0  # seconds of zeros since the start; 0 after the first nonzero sample
        self._sound = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(int(QUEUE_SECONDS / BLOCK_SECONDS))
        with quiet():
            self.audio = _format(sounddevice, self.device)
            try:
                self._stream = sounddevice.RawInputStream(
                    device=self.device.index,
                    samplerate=self.audio.sample_rate,
                    channels=self.audio.channels,
                    dtype="int16",
                    blocksize=round(self.audio.sample_rate * BLOCK_SECONDS),
                    callback=self._record,
                )
            except sounddevice.PortAudioError as error:
                raise _problem(self.device, error) from error

    async def blocks(self, seconds: float | None, level: Callable[[float], None]) -> AsyncIterator[Block]:
        """Record for `seconds`, or without end. Calls `level` with the loudness of each block in dBFS."""
        self._loop = asyncio.get_running_loop()
        with quiet():
            self._stream.start()
        size = 2 * self.audio.channels
        left = None if seconds is None else round(seconds * self.audio.sample_rate) * size
        while left is None or left > 0:
            block = await self._queue.get()
            if left is not None:
                block = block[:left]
                left -= len(block)
            level(loudness(block))
            yield block

    def close(self) -> None:
        with quiet():
            self._stream.abort()
            self._stream.close()

    def _record(self, data: Any, *_: Any) -> None:
        # Runs on PortAudio's thread. The loop may end before the device is closed.
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, bytes(data))

    def _put(self, data: bytes) -> None:
        length = len(data) / (2 * self.audio.channels * self.audio.sample_rate)
        self._sound = self._sound or any(data)
        self.silence = 0.0 if self._sound else self.silence + length
        if self._queue.full():
            self.dropped += length
        else:
            self._queue.put_nowait(data)


def loudness(block: bytes) -> float:
    """Level of 16-bit audio in dBFS; a full-scale sine has 0."""
    samples = np.frombuffer(block, "<i2").astype(np.float64)
    power = float(np.mean(samples**2)) if len(samples) else 0.0
    return 10 * float(np.log10(max(power, 1e-3) / (32_768**2 / 2)))


def _format(sounddevice: Any, device: Device) -> AudioFormat:
    own = min(device.channels, MAX_CHANNELS)
    for rate, channels in ((SAMPLE_RATE, 1), (device.sample_rate, 1), (device.sample_rate, own)):
        try:
            sounddevice.check_input_settings(device=device.index, channels=channels, dtype="int16", samplerate=rate)
        except sounddevice.PortAudioError:
            continue
        return AudioFormat(sample_rate=rate, channels=channels)
    return AudioFormat(sample_rate=device.sample_rate, channels=own)  # opening the device then fails with the reason


def _problem(device: Device, error: Exception) -> MicrophoneError:
    codes = [code for code in error.args if isinstance(code, int)]
    text = str(error.args[0]) if error.args else "unknown"
    if BUSY in codes or "unavailable" in text or "busy" in text:
        return MicrophoneError(f"{device.name} is busy: close the program that uses it, or choose another device")
    if "denied" in text or "permission" in text.casefold():
        return MicrophoneError(f"no permission to use {device.name}: {no_devices()}")
    return MicrophoneError(f"{device.name} cannot be opened: {text}")
