"""Normalization to zero mean and unit variance, as the checkpoint's feature extractor does it.

`normalize` equals the extractor on a whole utterance; the second pass uses it. Live steps do not have the whole
utterance, and normalizing each window separately would amplify pauses and make posteriors jump. So `RunningNormalizer`
scales each sample once, by the statistics of the utterance up to the step that first uses it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..frames import ms

Float32 = NDArray[np.float32]

# Addends to the variance: of transformers' Wav2Vec2FeatureExtractor, and of its OmniASRFeatureExtractor.
EPSILON: Final = 1e-7
OMNIASR_EPSILON: Final = 1e-5
_SEED_WEIGHT = ms(1000)  # of earlier utterances, in samples


class Moments(NamedTuple):
    """Sums over samples; the weight may be smaller than their count."""

    weight: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    def plus(self, samples: Float32) -> Moments:
        wide = samples.astype(np.float64)
        return Moments(
            self.weight + len(wide), self.total + float(wide.sum()), self.squares + float(np.square(wide).sum())
        )

    def scaled_to(self, weight: float) -> Moments:
        """The same mean and variance with at most this weight."""
        factor = min(1.0, weight / self.weight) if self.weight else 0.0
        return Moments(self.weight * factor, self.total * factor, self.squares * factor)

    @property
    def mean(self) -> float:
        return self.total / self.weight

    def scale(self, epsilon: float) -> float:
        variance = max(0.0, self.squares / self.weight - self.mean**2)
        return 1.0 / float(np.sqrt(variance + epsilon))


def normalize(samples: Float32, epsilon: float = EPSILON) -> Float32:
    """Shape (n,) to (n,): exactly the feature extractor's `do_normalize`."""
    return ((samples - samples.mean()) / np.sqrt(samples.var() + epsilon)).astype(np.float32)


class RunningNormalizer:
    """Normalized audio of one growing utterance; the scale of a sample never changes.

    `seed` holds the moments of earlier utterances of the session, which scale the first words of this one. When not
    `enabled` it keeps the samples as they are.
    """

    def __init__(self, seed: Moments | None = None, *, enabled: bool = True, epsilon: float = EPSILON) -> None:
        self._enabled = enabled
        self._epsilon = epsilon
        self._moments = (seed or Moments()).scaled_to(_SEED_WEIGHT)
        self._normalized = np.empty(0, np.float32)
        self._length = 0

    @property
    def length(self) -> int:
        """Samples of the utterance normalized so far."""
        return self._length

    def extend(self, samples: Float32) -> None:
        """Take the utterance's next samples, shape (n,), and fix their scale."""
        if not len(samples):
            return
        self._moments = self._moments.plus(samples)
        end = self._length + len(samples)
        if end > len(self._normalized):
            larger = np.empty(max(end, 2 * len(self._normalized)), np.float32)
            larger[: self._length] = self._normalized[: self._length]
            self._normalized = larger
        scaled = (samples - self._moments.mean) * self._moments.scale(self._epsilon) if self._enabled else samples
        self._normalized[self._length : end] = scaled
        self._length = end

    def read(self, start: int, end: int) -> Float32:
        """Copy of normalized samples `[start, end)` of the utterance."""
        if not 0 <= start <= end <= self._length:
            raise IndexError(f"samples [{start}, {end}) requested, [0, {self._length}) normalized")
        return self._normalized[start:end].copy()
