"""The interface of a model to the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..requests import CachedFeatures, CachedStep

Float32 = NDArray[np.float32]
Answer = Float32 | EngineError  # log-probabilities, (frames, vocabulary); an error if this request alone failed
Pending = Callable[[], Sequence[Answer]]  # waits for the device; call it once
Pause = Callable[[float], None]  # called between the layers of a pass, with the share of them that is done


class Encoder(Protocol):
    """Encodes batches of full passes or of live steps."""

    @property
    def max_batch(self) -> int:
        """Maximum number of utterances in one call."""
        ...

    def fits(self, samples: int, others: Sequence[int]) -> bool:
        """Whether audio of `samples` samples may share a batch with audio of the lengths `others`, not empty."""
        ...

    def encode(
        self,
        batch: Sequence[Float32],
        cached: Sequence[CachedFeatures | None],
        languages: Sequence[str | None] | None = None,
    ) -> Sequence[Answer]:
        """Log-probabilities, (frames, vocabulary), for each array of samples, (n,).

        It may use the cached features if they still exist. The vocabulary is that of the language; None is the default.
        """
        ...

    def fits_step(self, step: CachedStep, others: Sequence[CachedStep]) -> bool:
        """Whether a step may share a batch with the others, which are not empty."""
        ...

    def encode_steps(self, batch: Sequence[tuple[Float32, CachedStep]]) -> Sequence[Answer]:
        """Log-probabilities for live steps of different utterances. The cache of a step that fails is unchanged or
        freed, also if this raises."""
        ...

    def release(self, cache: int) -> None:
        """Free the cache with this number, if there is one."""
        ...


@runtime_checkable
class InterruptibleEncoder(Encoder, Protocol):
    """An encoder that may encode live steps of other utterances between the layers of a full pass."""

    @property
    def interruptible(self) -> bool:
        """Whether it does so on this device."""
        ...

    def encode(
        self,
        batch: Sequence[Float32],
        cached: Sequence[CachedFeatures | None],
        languages: Sequence[str | None] | None = None,
        pause: Pause | None = None,
    ) -> Sequence[Answer]:
        """As in `Encoder`. `pause` may call `encode_steps`; what it raises ends the pass."""
        ...


@runtime_checkable
class PipelinedEncoder(Encoder, Protocol):
    """An encoder whose device may work on one batch while the next one begins. A cache is in one of them at most.

    `begin` and `begin_steps` are `encode` and `encode_steps` without their wait.
    """

    @property
    def pipelined(self) -> bool:
        """Whether that saves time on this device."""
        ...

    def begin(
        self,
        batch: Sequence[Float32],
        cached: Sequence[CachedFeatures | None],
        languages: Sequence[str | None] | None = None,
    ) -> Pending: ...

    def begin_steps(self, batch: Sequence[tuple[Float32, CachedStep]]) -> Pending: ...
