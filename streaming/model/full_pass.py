"""Whole passes: all frames of utterances with full context, in padded batches. The second pass is one.

They may take features that live steps have already made out of the pools, and then run the CNN over the rest alone.
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


class _Whole(NamedTuple):
    samples: Float32  # of the frames after those that are known
    length: int  # frames
    known: int  # of these, remembered at its place
    place: Slot | None


class PassEncoder:
    """Belongs to the thread that runs the model; `best` as in `answers`."""

    def __init__(self, body: XlsrLayers, places: CacheManager, programs: Runner, *, best: int | None = None) -> None:
        self._body = body
        self._places = places
        self._programs = programs
        self._best = best

    @torch.inference_mode()
    def encode(self, batch: Sequence[Float32], recalls: Sequence[CachedFeatures | None]) -> list[Float32]:
        """Log-probabilities, (frames, vocabulary) float32, of normalised audio, (n,) with n of at least 400; where
        features can be recalled, they are. Raises `EngineError` if the numbers are not finite."""
        wholes = [self._whole(samples, recall) for samples, recall in zip(batch, recalls, strict=True)]
        groups: dict[Pool | None, list[int]] = {}
        for index, whole in enumerate(wholes):
            groups.setdefault(whole.place.pool if whole.place else None, []).append(index)
        answers: dict[int, Float32] = {}
        for pool, members in groups.items():
            answers.update(zip(members, self._pass(pool, [wholes[index] for index in members]), strict=True))
        return [answers[index] for index in range(len(batch))]

    def _whole(self, samples: Float32, recall: CachedFeatures | None) -> _Whole:
        count = frames(len(samples))
        place = self._places.get(recall.cache.number) if recall else None
        if recall is None or place is None or not place.recalls(recall.frames):
            return _Whole(samples[: span(count)], count, 0, None)
        known = min(recall.frames, count)
        return _Whole(samples[known * STRIDE : span(count)] if known < count else samples[:0], count, known, place)

    def _pass(self, pool: Pool | None, wholes: Sequence[_Whole]) -> list[Float32]:
        rounded = self._programs.frames
        lengths = [whole.length for whole in wholes]
        new = max(whole.length - whole.known for whole in wholes)
        shape = Shape(self._programs.batch(len(wholes)), rounded(max(lengths)), rounded(new))
        full = all(length == shape.queries for length in lengths)  # then nothing is masked
        words = plan_passes(
            shape,
            [whole.samples for whole in wholes],
            lengths,
            [whole.known for whole in wholes],
            [whole.place.slot * whole.place.pool.cells if whole.place else 0 for whole in wholes],
        )
        key = ("pass", pool and pool.version, shape, full)
        answer = self._programs.run(key, partial(self._program, pool, shape, full), words)
        rows = unpack(answer, shape.batch, self._body.vocabulary, best=self._best)
        if rows is None:
            raise EngineError("the model's output is not finite")
        return [row[:length] for row, length in zip(rows, lengths, strict=False)]

    def _program(self, pool: Pool | None, shape: Shape, full: bool, words: Tensor) -> Tensor:
        body, (size, length, new, _) = self._body, shape
        audio, (remembered, fresh, counts, valid) = split_words(words, size, span(new), pass_columns(shape))
        sources: list[Tensor] = []
        if new:
            features = body.features(audio).flatten(0, 1)
            sources.append(pad(features, (0, 0, 0, 1)).index_select(0, fresh))
        if pool is not None:
            sources.append(pool.features.index_select(0, remembered))
        x = sources[0] if len(sources) == 1 else sources[0] + sources[1]  # each is zero where the other is not
        x = body.positioned(pad(x.view(size, length, -1), (0, 0, body.reach, 0)))
        mask = None if full else body.bias(counts.view(size, 1, 1, -1) > 0).expand(-1, -1, length, -1)
        for layer in range(len(body.layers)):
            x = body.layer(layer, x, _itself, mask)
        return pack(body.log_probs(x), valid.view(size, -1) > 0, best=self._best)[0]


def _itself(layer: int, own: Tensor) -> Tensor:
    return own
