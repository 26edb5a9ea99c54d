"""Audio of a microphone, which a process of its own records (`recorder`)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec
import numpy as np

from ..console import waiting
from ..pump import Block
from .devices import MicrophoneError
from .recorder import BLOCK_SECONDS, HEAD, RecorderProblem, RecorderReady

RING_SECONDS: Final = 120.0  # kept while nobody takes audio, such as during the load of a model
CLOSE_SECONDS: Final = 2.0
FIRST_SECONDS: Final = 5.0  # for the first audio of a device; a suspended one may send none
RECORDER: Final = (sys.executable, "-m", "xlsr_live.client.sources.recorder")


class Microphone:
    """An input device, by number or part of its name. It records from its creation, so that no word is lost while the
    program gets ready: `blocks` starts with the first sample, or with the last `RING_SECONDS`.

    Raises `MicrophoneError`.
    """

    def __init__(self, wanted: str | None = None) -> None:
        self.dropped = 0.0  # seconds that the ring no longer held
        self.gaps = 0  # times that the sound system lost audio
        self.silence = 0.0  # seconds of zeros since the start; 0 after the first nonzero sample
        self._sound = self._ended = self._stopped = False
        self._ring: deque[bytes] = deque(maxlen=int(RING_SECONDS / BLOCK_SECONDS))
        self._news = threading.Event()  # a block, or the end
        self._wake: Callable[[], object] | None = None  # the taker in an event loop
        # A session of its own: Ctrl-C on a terminal must not end it before the last words have come.
        self._process = subprocess.Popen(
            [*RECORDER, wanted or ""],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
        )
        assert self._process.stdout is not None
        self._out = self._process.stdout
        line = self._out.readline()
        try:
            opened: RecorderReady | RecorderProblem = msgspec.json.decode(line, type=RecorderReady | RecorderProblem)
        except msgspec.DecodeError as error:
            self._refuse()
            raise MicrophoneError("the process that records the microphone failed (its message is above)") from error
        if isinstance(opened, RecorderProblem):
            self._refuse()
            raise MicrophoneError(opened.problem)
        self.device, self.audio = opened.device, opened.audio
        threading.Thread(target=self._read, name="microphone", daemon=True).start()

    @property
    def waiting(self) -> float:
        """Seconds of recorded audio that `blocks` has not yielded yet."""
        return len(self._ring) * BLOCK_SECONDS

    def wait(self, seconds: float) -> bool:
        """Wait for the first audio, at most so long. Whether there is any."""
        return self._news.wait(seconds)

    async def blocks(self, seconds: float | None, level: Callable[[float], None]) -> AsyncIterator[Block]:
        """All audio since the start, for `seconds` or without end. Calls `level` with the loudness of each block in
        dBFS. Raises `MicrophoneError` when the device stops."""
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(arrived.set)
        size = 2 * self.audio.channels
        left = None if seconds is None else round(seconds * self.audio.sample_rate) * size
        while left is None or left > 0:
            arrived.clear()
            if not self._ring:
                if self._ended and self._stopped:
                    return
                if self._ended:
                    raise MicrophoneError(f"{self.device.name} has stopped: unplugged, or the sound system ended")
                await arrived.wait()
                continue
            block = self._ring.popleft()
            if left is not None:
                block = block[:left]
                left -= len(block)
            level(loudness(block))
            yield block

    def stop(self) -> None:
        """Record no more; `blocks` ends with the audio that waits."""
        self._stopped = True
        self._process.terminate()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:  # the sound system hangs
            self._process.kill()
            self._process.wait()

    def _refuse(self) -> None:
        self._out.close()
        self.close()

    def _read(self) -> None:
        """Moves audio from the recorder to the ring, in a thread."""
        with self._out:
            while len(head := self._out.read(HEAD.size)) == HEAD.size:
                size, gap = HEAD.unpack(head)
                self._put(self._out.read(size), gap)
        self._ended = True
        self._tell()

    def _put(self, block: bytes, gap: bool) -> None:
        length = len(block) / (2 * self.audio.channels * self.audio.sample_rate)
        self._sound = self._sound or any(block)
        self.silence = 0.0 if self._sound else self.silence + length
        self.gaps += gap
        if len(self._ring) == self._ring.maxlen:
            self.dropped += length
        self._ring.append(block)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        if self._wake is not None:
            try:
                self._wake()
            except RuntimeError:  # the loop may end before the device is closed
                self._wake = None


def open_microphone(wanted: str | None, *, held: bool = False) -> Microphone:
    """Open a microphone and wait for its first audio; a terminal shows both. With `held` only audio counts during which
    the user holds a key. Raises `MicrophoneError`.
    """
    with waiting("starting the microphone"):
        microphone = Microphone(wanted)
        microphone.wait(FIRST_SECONDS)
    if sys.stderr.isatty():
        name = microphone.device.name
        ready = f"{name} is ready: talk when the model is loaded."
        print(ready if held else f"Recording from {name}: speak, the text follows.", file=sys.stderr)
    return microphone


def loudness(block: bytes) -> float:
    """Level of 16-bit audio in dBFS; a full-scale sine has 0."""
    samples = np.frombuffer(block, "<i2").astype(np.float64)
    power = float(np.mean(samples**2)) if len(samples) else 0.0
    return 10 * float(np.log10(max(power, 1e-3) / (32_768**2 / 2)))
