"""Full passes: all frames of utterances with full context, in padded batches. The second pass is one.

A pass may take features that live steps left in the cache; the CNN then runs over the other frames only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from ..errors import EngineError
from ..frames import STRIDE, frames, span
from ..requests import CachedFeatures
from .batching import Shape, pass_columns, plan_passes
from .cache import CacheManager, Pool, Slot
from .layers import XlsrLayers
from .readback import pack, unpack
from .runners import Runner, split_words

Float32 = NDArray[np.float32]


class _Utterance(NamedTuple):
    samples: Float32  # of the frames after the cached ones
    length: int  # frames
    cached: int  # of these, in the slot
    slot: Slot | None


class PassEncoder:
    """Only the thread that runs the model uses it; `best` as in `readback.pack`."""

    def __init__(self, network: XlsrLayers, caches: CacheManager, runner: Runner, *, best: int | None = None) -> None:
        self._network = network
        self._caches = caches
        self._runner = runner
        self._best = best

    @torch.inference_mode()
    def encode(self, batch: Sequence[Float32], cached: Sequence[CachedFeatures | None]) -> list[Float32]:
        """Log-probabilities, (frames, vocabulary) float32, of normalized audio, (n,) with n of at least 400, from
        cached features where they exist. Raises `EngineError` if the output is not finite."""
        utterances = [self._utterance(samples, features) for samples, features in zip(batch, cached, strict=True)]
        groups: dict[Pool | None, list[int]] = {}
        for index, utterance in enumerate(utterances):
            groups.setdefault(utterance.slot.pool if utterance.slot else None, []).append(index)
        answers: dict[int, Float32] = {}
        for pool, members in groups.items():
            answers.update(zip(members, self._pass(pool, [utterances[index] for index in members]), strict=True))
        return [answers[index] for index in range(len(batch))]

    def _utterance(self, samples: Float32, features: CachedFeatures | None) -> _Utterance:
        count = frames(len(samples))
        slot = self._caches.get(features.cache.number) if features else None
        if features is None or slot is None or not slot.holds(features.frames):
            return _Utterance(samples[: span(count)], count, 0, None)
        known = min(features.frames, count)
        return _Utterance(samples[known * STRIDE : span(count)] if known < count else samples[:0], count, known, slot)

    def _pass(self, pool: Pool | None, utterances: Sequence[_Utterance]) -> list[Float32]:
        rounded = self._runner.frames
        lengths = [utterance.length for utterance in utterances]
        new = max(utterance.length - utterance.cached for utterance in utterances)
        shape = Shape(self._runner.batch(len(utterances)), rounded(max(lengths)), rounded(new))
        full = all(length == shape.queries for length in lengths)  # then no mask is needed
        words = plan_passes(
            shape,
            [utterance.samples for utterance in utterances],
            lengths,
            [utterance.cached for utterance in utterances],
            [utterance.slot.index * utterance.slot.pool.cells if utterance.slot else 0 for utterance in utterances],
        )
        key = ("pass", pool and pool.version, shape, full)
        answer = self._runner.run(key, partial(self._program, pool, shape, full), words)
        rows = unpack(answer, shape.batch, self._network.vocabulary, best=self._best)
        if rows is None:
            raise EngineError("the model's output is not finite")
        return [row[:length] for row, length in zip(rows, lengths, strict=False)]

    def _program(self, pool: Pool | None, shape: Shape, full: bool, words: Tensor) -> Tensor:
        network, (size, length, new, _) = self._network, shape
        audio, (cached, fresh, valid_keys, valid) = split_words(words, size, span(new), pass_columns(shape))
        sources: list[Tensor] = []
        if new:
            features = network.features(audio).flatten(0, 1)
            sources.append(pad(features, (0, 0, 0, 1)).index_select(0, fresh))
        if pool is not None:
            sources.append(pool.features.index_select(0, cached))
        x = sources[0] if len(sources) == 1 else sources[0] + sources[1]  # one is zero where the other is not
        x = network.positioned(pad(x.view(size, length, -1), (0, 0, network.reach, 0)))
        mask = None if full else network.bias(valid_keys.view(size, 1, 1, -1) > 0).expand(-1, -1, length, -1)
        for layer in range(len(network.layers)):
            x = network.layer(layer, x, _own, mask)
        return pack(network.log_probs(x), valid.view(size, -1) > 0, best=self._best)[0]


def _own(layer: int, own: Tensor) -> Tensor:
    return own
