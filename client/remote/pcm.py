"""Encodes float samples for a server."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...streaming.errors import AudioError


def encode(audio: NDArray[np.floating], encoding: str) -> bytes:
    """Floats in [-1, 1] as `pcm_s16le` or `pcm_f32le`. 16-bit audio that was read as floats stays bit-exact.

    Raises `AudioError` for other encodings.
    """
    if encoding == "pcm_f32le":
        return audio.astype("<f4").tobytes()
    if encoding == "pcm_s16le":
        return np.clip(np.rint(audio * 32_768.0), -32_768, 32_767).astype("<i2").tobytes()
    raise AudioError(f"arrays can be sent as pcm_s16le or pcm_f32le, not as {encoding}; send bytes")
