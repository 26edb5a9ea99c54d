"""Checks of audio in memory, shared by local recognition and by the client that sends audio to a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import AudioError

F = TypeVar("F", bound=np.floating)

MOST: Final = 32.0  # magnitude of a float sample; 30 dB above full scale is not loud audio but another unit

_DECIDING: Final = 800  # nonzero words before the check decides: 50 ms of 16 kHz audio
_UNLIKELY: Final = 16  # implausible floats after which the bytes count as integers for the rest of the stream


def as_packet(audio: object) -> bytes | NDArray[np.floating]:
    """Bytes, or an array of anything that numpy can convert: a list, a torch tensor on the CPU. Raises `AudioError`."""
    if isinstance(audio, bytes | bytearray | memoryview):
        return bytes(cast(bytes, audio))
    kind = type(audio).__name__
    if not isinstance(audio, np.ndarray | list | tuple) and not hasattr(audio, "__array__"):
        raise AudioError(f"audio must be bytes or an array of float samples, not {kind}")
    try:
        return cast(NDArray[np.floating], np.asarray(audio))
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise AudioError(f"this {kind} does not convert to an array of float samples: {reason}") from error


def shaped(samples: NDArray[F], channels: int) -> NDArray[F]:
    """Float samples (n,) or (n, channels), as (n, channels). Raises `AudioError` for other shapes and types."""
    if samples.dtype.kind != "f":
        raise AudioError(f"arrays must hold float samples in [-1, 1], not {samples.dtype}; send integers as bytes")
    columns = samples.reshape(-1, 1) if samples.ndim == 1 else samples
    if columns.ndim != 2 or columns.shape[1] != channels:
        raise AudioError(f"audio of shape {samples.shape}, but {channels} channel(s) were declared")
    return columns


def checked(samples: NDArray[F]) -> NDArray[F]:
    """The samples. Raises `AudioError` if some are not finite, or so large that they cannot be floats in [-1, 1]."""
    largest = float(np.abs(samples).max(initial=0))
    if not np.isfinite(largest):
        raise AudioError("the audio has samples that are not finite (NaN or infinity); the packet was refused")
    if largest > MOST:
        raise AudioError(
            f"samples reach {largest:.6g}, but float samples lie in [-1, 1]: divide 16-bit values by 32768, or send "
            "them as bytes and declare pcm_s16le"
        )
    return samples


@dataclass(frozen=True, slots=True)
class IntegerCheck:
    """Recognizes 32-bit floats that are declared as 16-bit integers, where they sound like loud noise.

    Two 16-bit samples of audio rarely form a float in [-1, 1], and almost never many times in a row. The first packets
    decide.
    """

    held: bytes = b""  # start of an incomplete word
    words: int = 0  # nonzero 32-bit words
    negative: int = 0  # of these, negative as floats
    unlikely: int = 0  # of these, implausible as audio floats

    def after(self, packet: bytes) -> IntegerCheck:
        """The check's state after this packet. Raises `AudioError` if the bytes are floats."""
        if self.unlikely > _UNLIKELY:
            return self
        data = self.held + packet
        whole = len(data) - len(data) % 4
        words = np.frombuffer(data[:whole], "<u4")
        words = words[words & 0x7FFFFFFF != 0]
        magnitude = (words & 0x7FFFFFFF).view(np.float32)
        unlikely = self.unlikely + int(np.count_nonzero(~((magnitude <= 1.0) & (magnitude > 2.0**-30))))
        state = IntegerCheck(
            data[whole:],
            self.words + len(words),
            self.negative + int(np.count_nonzero(words >> 31)),
            unlikely,
        )
        both_signs = 0.05 < state.negative / max(1, state.words) < 0.95
        if state.words >= _DECIDING and unlikely <= _UNLIKELY and both_signs:
            raise AudioError("the declared encoding is pcm_s16le, but the bytes look like 32-bit floats (pcm_f32le)")
        return state
