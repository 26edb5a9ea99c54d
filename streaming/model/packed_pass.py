"""Full passes with packed attention: utterances of any length lie one after another, without padding between them.

The CNN runs over the joined audio, in which a frame that no utterance wants separates two of them. The positional
convolution runs over the joined features, with zeros between utterances as at the ends of an input. It has run on a CPU
only, and is off.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ..frames import STRIDE, span
from ..requests import CachedFeatures
from .answers import Answer, Float32, Int32, Pending, cut
from .cache import Pool
from .full_pass import GRAPHED, PassEncoder, PassInput, Pause
from .languages import Place
from .readback import unpack, words_of
from .runners import GraphRunner, Key, split_words
from .shapes import Shape
from .varlen import attend_packed

_BATCH: Final = 16  # utterances
_ROWS: Final = (256, 512, 1_024, 1_536, 2_048, 3_072, 4_096)  # frames of a batch
_LONGEST: Final = 4_096  # frames of an utterance


class PackedPassEncoder(PassEncoder):
    """For checkpoints of one language. It computes all features, also those that live steps left in a cache."""

    def fits(self, length: int, others: Sequence[int], most: float) -> bool:
        return len(others) < _BATCH and length + sum(others) <= min(most, GRAPHED)

    def shapes(self, batches: Sequence[int], longest: int, most: float, *, recalls: bool) -> Iterator[Shape]:
        for rows in _ROWS:
            yield Shape(_BATCH, rows, rows)

    def _utterance(self, samples: Float32, features: CachedFeatures | None, place: Place | None) -> PassInput:
        return super()._utterance(samples, None, place)

    def _start(self, utterances: Sequence[PassInput], pause: Pause | None) -> Pending:
        lengths = [utterance.length for utterance in utterances]
        rows = sum(lengths)
        shape = self._runner.fit(_family(), Shape(len(lengths), rows, rows))
        starts = [0, *accumulate(lengths)]
        words = self._plan(shape, [utterance.samples for utterance in utterances], starts)
        fetch = self._runner.start(Key(_family(), shape), partial(self._packed, shape), words)

        def finish() -> list[Answer]:
            width = self._network.vocabulary
            return cut(unpack(fetch(), shape.batch, lengths, width, best=self._best, starts=starts), ())

        return finish

    def prepare(self, pool: Pool | None, shape: Shape, runner: GraphRunner) -> bool:
        words = _samples(shape) + sum(self._columns(shape))
        return runner.prepare(Key(_family(), shape), partial(self._packed, shape), words)

    def _plan(self, shape: Shape, audio: Sequence[Float32], starts: Sequence[int]) -> list[Int32]:
        """Joined audio, and the columns of `_columns`: features with zeros between utterances, their rows that are
        frames, the utterance of each frame, and the first frame of each utterance."""
        joined = np.zeros(_samples(shape), np.float32)
        lengths, reach = np.diff(starts), self._network.reach
        spread, frames, owners, bounds = (np.zeros(count, np.int32) for count in self._columns(shape))
        spread[:] = shape.queries + shape.batch  # the row of zeros
        owners[:] = shape.batch
        for row, (samples, start, length) in enumerate(zip(audio, starts, lengths, strict=False)):
            first, place = start + row, start + (row + 1) * reach
            joined[STRIDE * first :][: len(samples)] = samples
            spread[place : place + length] = np.arange(first, first + length)
            frames[start : start + length] = np.arange(place - reach, place - reach + length)
            owners[start : start + length] = row
        bounds[:] = starts[-1]
        bounds[: len(starts)] = starts
        return [joined.view(np.int32), spread, frames, owners, bounds]

    def _columns(self, shape: Shape) -> tuple[int, ...]:
        spread = shape.queries + (shape.batch + 1) * self._network.reach
        return spread, shape.queries, shape.queries, shape.batch + 1

    def _packed(self, shape: Shape, words: Tensor) -> Tensor:
        network, hidden, width = self._network, self._network.hidden, self._network.head_width
        audio, (spread, frames, owners, bounds) = split_words(words, 1, _samples(shape), self._columns(shape))
        features = pad(network.features(audio)[0], (0, 0, 0, 1)).index_select(0, spread)
        x = network.positioned(features[None])[0].index_select(0, frames)[None]
        starts = bounds.int()

        def attention(index: int, queries: Tensor) -> Tensor:
            asked, keys, values = queries[0].view(len(frames), 3, hidden // width, width).unbind(1)
            return attend_packed(asked, keys, values, starts, min(_LONGEST, shape.queries)).reshape(1, -1, hidden)

        for layer in range(len(network.layers)):
            x = network.layer(layer, x, attention)
        rows = network.log_probs(x)
        broken = torch.zeros(shape.batch + 1, dtype=torch.int32, device=rows.device)
        broken.index_add_(0, owners, (~rows[0].isfinite().all(-1)).int())
        return words_of(rows, broken[:-1] == 0, best=self._best)


def _family() -> Hashable:
    return ("packed pass",)


def _samples(shape: Shape) -> int:
    """Of the joined audio: one more frame for each utterance."""
    return span(shape.queries + shape.batch)
