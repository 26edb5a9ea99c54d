"""What an array of audio must be, whether it is heard in this process or sent to a server."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import AudioError

F = TypeVar("F", bound=np.floating)


def shaped(samples: NDArray[F], channels: int) -> NDArray[F]:
    """Float samples (n,) or (n, channels), as (n, channels). Raises `AudioError` for any others."""
    if samples.dtype.kind != "f":
        raise AudioError(f"arrays hold float samples in [-1, 1], not {samples.dtype}; send integers as bytes")
    found = samples.reshape(-1, 1) if samples.ndim == 1 else samples
    if found.ndim != 2 or found.shape[1] != channels:
        raise AudioError(f"audio of shape {samples.shape}, but {channels} channel(s) were declared")
    return found


def finite(samples: NDArray[F]) -> NDArray[F]:
    """The samples. Raises `AudioError` if not all are finite."""
    if not np.isfinite(samples).all():
        raise AudioError("audio holds samples that are not finite (NaN or infinity); the packet was refused")
    return samples
