"""What the engine expects of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..requests import CachedFeatures, CachedStep

Float32 = NDArray[np.float32]


class Encoder(Protocol):
    """Encodes batches of full passes or of live steps."""

    @property
    def max_batch(self) -> int:
        """Most utterances in one call."""
        ...

    def fits(self, samples: int, others: Sequence[int]) -> bool:
        """Whether audio of that many samples may share a batch with audio of the other lengths."""
        ...

    def encode(self, batch: Sequence[Float32], cached: Sequence[CachedFeatures | None]) -> list[Float32]:
        """Log-probabilities, (frames, vocabulary), for each of the sample arrays, (n,). It may use the cached features,
        which need not exist any more."""
        ...

    def fits_step(self, step: CachedStep, others: Sequence[CachedStep]) -> bool:
        """Whether a step may share a batch with the others."""
        ...

    def encode_steps(self, batch: Sequence[tuple[Float32, CachedStep]]) -> list[Float32]:
        """The same for live steps of different utterances. If it raises, their caches are unchanged or gone."""
        ...

    def release(self, cache: int) -> None:
        """Free the cache with that number, if there is one."""
        ...
