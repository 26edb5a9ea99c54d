"""Records a microphone in a process of its own: `python -m xlsr_live.client.sources.recorder NAME`.

PortAudio's callback needs Python's lock. A program that imports torch holds that lock for seconds, and audio would be
lost. This process does nothing else. It writes to standard output a line of JSON, a `RecorderReady` or a
`RecorderProblem`, and then blocks of 16-bit audio, each after a `HEAD`. It ends when its output is closed, or with
SIGTERM, after the blocks that wait.
"""

from __future__ import annotations

import os
import queue
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec

from ...streaming.config import MAX_CHANNELS, AudioFormat
from ...streaming.errors import XlsrLiveError
from ...streaming.frames import SAMPLE_RATE
from ...streaming.quiet import quiet
from .devices import Device, MicrophoneError, choose, input_devices, no_devices, portaudio
from .sound_server import choose_source, recorded_source

BLOCK_SECONDS: Final = 0.05
LATENCY: Final = 0.4  # seconds that the sound system can keep while this process waits for a processor
QUEUE_SECONDS: Final = 60.0  # while the reader is busy
BUSY: Final = -9985  # paDeviceUnavailable
HEAD: Final = struct.Struct("<I?")  # size of a block in bytes; whether audio before it was lost


class RecorderReady(msgspec.Struct, frozen=True, tag=True):
    """The device and the format of the audio that follows."""

    device: Device
    audio: AudioFormat


class RecorderProblem(msgspec.Struct, frozen=True, tag=True):
    """Why nothing is recorded, for people."""

    problem: str


class Recorder:
    """An input device, by number or part of its name; calls `put` with each block and whether audio before it was lost.

    Records 16 kHz mono if the device supports it, else the device's own rate and channels, which the recognizer
    converts. Raises `MicrophoneError`.
    """

    def __init__(self, wanted: str | None, put: Callable[[bytes, bool], None], ended: Callable[[], None]) -> None:
        sounddevice = portaudio()
        self.device = choose(input_devices(), wanted)
        self._put = put
        if self.device.source:
            choose_source(self.device.source)
        with quiet():
            self.audio = _format(sounddevice, self.device)
            try:
                self._stream = sounddevice.RawInputStream(
                    device=self.device.index,
                    samplerate=self.audio.sample_rate,
                    channels=self.audio.channels,
                    dtype="int16",
                    blocksize=round(self.audio.sample_rate * BLOCK_SECONDS),
                    latency=LATENCY,
                    callback=self._record,
                    finished_callback=ended,
                )
                self._stream.start()
            except sounddevice.PortAudioError as error:
                raise _problem(self.device, error) from error
        source = self.device.source
        if source and (found := recorded_source()) != source:
            raise MicrophoneError(
                f"{source} is on the sound server, but ALSA leads to {found or 'another device'}: install the server's "
                "plug-in for ALSA (Debian and Ubuntu: apt install libasound2-plugins, or pipewire-alsa)"
            )

    def close(self) -> None:
        with quiet():
            self._stream.abort()
            self._stream.close()

    def _record(self, data: Any, count: int, time: Any, status: Any) -> None:
        self._put(bytes(data), bool(status and status.input_overflow))


def main() -> None:
    """Record until standard output is closed, or the device stops."""
    blocks: queue.SimpleQueue[tuple[bytes, bool] | None] = queue.SimpleQueue()  # reentrant: `stop` interrupts `get`
    most, lost = int(QUEUE_SECONDS / BLOCK_SECONDS), False

    def put(block: bytes, gap: bool) -> None:
        nonlocal lost
        if blocks.qsize() >= most:
            lost = True
            return
        blocks.put((block, gap or lost))
        lost = False

    def stop(*_: object) -> None:
        blocks.put(None)  # after the blocks that wait

    signal.signal(signal.SIGTERM, stop)
    out = sys.stdout.buffer
    try:
        recorder = Recorder(sys.argv[1] or None, put, lambda: blocks.put(None))
    except XlsrLiveError as error:
        out.write(msgspec.json.encode(RecorderProblem(str(error))) + b"\n")
        return
    try:
        out.write(msgspec.json.encode(RecorderReady(recorder.device, recorder.audio)) + b"\n")
        out.flush()
        while item := blocks.get():
            block, gap = item
            out.write(HEAD.pack(len(block), gap) + block)
            out.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes it at the end


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


if __name__ == "__main__":
    main()
