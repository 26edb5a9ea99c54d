"""The interface of a model to the engine."""

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
        """Maximum number of utterances in one call."""
        ...

    def fits(self, samples: int, others: Sequence[int]) -> bool:
        """Whether audio of `samples` samples may share a batch with audio of the lengths `others`."""
        ...

    def encode(
        self,
        batch: Sequence[Float32],
        cached: Sequence[CachedFeatures | None],
        languages: Sequence[str | None] | None = None,
    ) -> list[Float32]:
        """Log-probabilities, (frames, vocabulary), for each array of samples, (n,).

        It may use the cached features if they still exist. The vocabulary is that of the language; None is the default.
        """
        ...

    def fits_step(self, step: CachedStep, others: Sequence[CachedStep]) -> bool:
        """Whether a step may share a batch with the others."""
        ...

    def encode_steps(self, batch: Sequence[tuple[Float32, CachedStep]]) -> list[Float32]:
        """Log-probabilities for live steps of different utterances. If it raises, each cache is unchanged or freed."""
        ...

    def release(self, cache: int) -> None:
        """Free the cache with this number, if there is one."""
        ...
