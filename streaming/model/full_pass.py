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
from .banks import HeadBank, LanguageRows
from .batching import LANGUAGE_COLUMNS, Shape, language_words, pass_columns, plan_passes
from .cache import CacheManager, Pool, Slot
from .languages import Place
from .layers import XlsrLayers
from .readback import pack, unpack
from .runners import Runner, split_words
from .step import cut, heads_of

Float32 = NDArray[np.float32]


class _Utterance(NamedTuple):
    samples: Float32  # of the frames after the cached ones
    length: int  # frames
    cached: int  # of these, in the slot
    slot: Slot | None
    place: Place | None  # of its language

    @property
    def group(self) -> tuple[object, ...]:
        """Equal for utterances that may share a batch: they have one pool, and heads that go together."""
        pool, place = self.slot and self.slot.pool, self.place
        return pool, place and place.bank, place and (None if place.bank.mixes else place.head)


class PassEncoder:
    """Only the thread that runs the model uses it; `best` as in `readback.pack`."""

    def __init__(self, network: XlsrLayers, caches: CacheManager, runner: Runner, *, best: int | None = None) -> None:
        self._network = network
        self._caches = caches
        self._runner = runner
        self._best = best

    def with_head(self, weight: Tensor, bias: Tensor) -> PassEncoder:
        """Passes over the same layers, without adapters, to rows of another head; all of its outputs."""
        return PassEncoder(self._network.with_head(weight, bias), self._caches, self._runner.another())

    @torch.inference_mode()
    def encode(
        self,
        batch: Sequence[Float32],
        cached: Sequence[CachedFeatures | None],
        languages: Sequence[str | None] | None = None,
    ) -> list[Float32]:
        """Log-probabilities, (frames, vocabulary) float32, of normalized audio, (n,) with n of at least 400, from
        cached features where they exist. Raises `EngineError` if the output is not finite."""
        if self._network.languages is None:
            return self._encode(batch, cached, [None] * len(batch))
        with self._network.languages.lease(languages or [None] * len(batch)) as places:
            return self._encode(batch, cached, places)

    def _encode(
        self, batch: Sequence[Float32], cached: Sequence[CachedFeatures | None], places: Sequence[Place | None]
    ) -> list[Float32]:
        utterances = [self._utterance(*each) for each in zip(batch, cached, places, strict=True)]
        groups: dict[object, list[int]] = {}
        for index, utterance in enumerate(utterances):
            groups.setdefault(utterance.group, []).append(index)
        answers: dict[int, Float32] = {}
        for members in groups.values():
            answers.update(zip(members, self._pass([utterances[index] for index in members]), strict=True))
        return [answers[index] for index in range(len(batch))]

    def _utterance(self, samples: Float32, features: CachedFeatures | None, place: Place | None) -> _Utterance:
        count = frames(len(samples))
        slot = self._caches.get(features.cache.number) if features else None
        if features is None or slot is None or not slot.holds(features.frames):
            return _Utterance(samples[: span(count)], count, 0, None, place)
        known = min(features.frames, count)
        rest = samples[known * STRIDE : span(count)] if known < count else samples[:0]
        return _Utterance(rest, count, known, slot, place)

    def _pass(self, utterances: Sequence[_Utterance]) -> list[Float32]:
        pool = utterances[0].slot and utterances[0].slot.pool
        places = [utterance.place for utterance in utterances if utterance.place]
        bank = heads_of(places)
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
        if bank:
            words += language_words(shape.batch, places)
        key = ("pass", pool and pool.version, shape, full, bank and bank.width)
        answer = self._runner.run(key, partial(self._program, pool, shape, full, bank), words)
        width, tokens = bank.width if bank else self._network.vocabulary, [place.tokens for place in places]
        rows = unpack(answer, shape.batch, width, best=self._best, tokens=tokens)
        if rows is None:
            raise EngineError("the model's output is not finite")
        return cut(rows, lengths, places)

    def _program(self, pool: Pool | None, shape: Shape, full: bool, bank: HeadBank | None, words: Tensor) -> Tensor:
        network, (size, length, new, _) = self._network, shape
        columns = pass_columns(shape) + (LANGUAGE_COLUMNS if bank else ())
        audio, (cached, fresh, valid_keys, valid, *languages) = split_words(words, size, span(new), columns)
        rows = LanguageRows(languages[0], languages[1], bank) if bank else None
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
            x = network.layer(layer, x, _own, mask, rows)
        return pack(network.log_probs(x, rows), valid.view(size, -1) > 0, best=self._best)[0]


def _own(layer: int, own: Tensor) -> Tensor:
    return own
