"""Random samples of no speech."""

from __future__ import annotations

import numpy as np

Float32 = np.ndarray


def noise(length: int, seed: int = 0, level: float = 1.0) -> Float32:
    """White noise, (length,), with that standard deviation."""
    return (np.random.default_rng(seed).standard_normal(length) * level).astype(np.float32)


def soft_noise(length: int, seed: int = 0) -> Float32:
    """White noise about as loud as speech, which needs no normalization to stay in range."""
    return noise(length, seed, 0.1)
