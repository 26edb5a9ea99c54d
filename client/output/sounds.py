"""`--sound`: a high tone for a command, a low one for rejected speech, through PortAudio."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from ...streaming.protocol.events import Command, Event, Rejected
from ..console import complain
from ..sources.devices import portaudio

RATE: Final = 48_000
ACCEPTED: Final = ((660.0, 0.07), (880.0, 0.1))  # tones: Hz and seconds
REJECTED: Final = ((220.0, 0.18),)
VOLUME: Final = 0.2  # of full scale
FADE: Final = 0.01  # seconds at each end of a tone, against clicks


class Sounds:
    """Plays in a thread of its own; a context manager. Raises `MicrophoneError` without PortAudio."""

    def __init__(self) -> None:
        self._sounddevice: Any = portaudio()
        self._executor = ThreadPoolExecutor(1, "sound")
        self._failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._executor.shutdown()

    def show(self, event: Event) -> None:
        match event:
            case Command():
                self._executor.submit(self._play, ACCEPTED)
            case Rejected(reason="unmatched"):
                self._executor.submit(self._play, REJECTED)
            case _:
                pass

    def _play(self, tones: tuple[tuple[float, float], ...]) -> None:
        try:
            self._sounddevice.play(samples(tones), RATE, blocking=True)
        except self._sounddevice.PortAudioError as error:
            if not self._failed:
                self._failed = True
                complain(f"no sound: {error}")


def samples(tones: tuple[tuple[float, float], ...]) -> NDArray[np.float32]:
    """The tones one after the other, (n,)."""
    parts: list[NDArray[np.float64]] = []
    for pitch, length in tones:
        time = np.arange(round(length * RATE)) / RATE
        envelope = np.clip(np.minimum(time, length - time) / FADE, 0, 1)
        parts.append(VOLUME * envelope * np.sin(2 * np.pi * pitch * time))
    return np.concatenate(parts).astype(np.float32)
