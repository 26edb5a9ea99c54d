"""Full passes: all frames of utterances with full context, in padded batches. The second pass is one.

A pass may take features that live steps left in the cache; the CNN then runs over the other frames only.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..frames import STRIDE, frames, span
from ..requests import CachedFeatures
from .answers import Answer, Float32, Pending, collected, cut, heads_of
from .banks import HeadBank, LanguageRows
from .batching import LANGUAGE_COLUMNS, language_words, pass_columns, plan_passes
from .cache import CacheManager, Pool, Slot
from .languages import Place
from .layers import XlsrLayers
from .readback import pack, unpack
from .runners import EagerRunner, GraphRunner, Key, Runner, split_words
from .shapes import Shape

_LENGTHS: Final = (64, 104, 152, 200, 256, 304, 400, 504, 600, 800, 1_000)  # frames of full passes, 1.3 to 20 s
_RECALLED: Final = 104  # frames that a pass computes where live steps left the others
Pause = Callable[[float], None]  # called before a layer, with the share of the layers that is done
GRAPHED: Final = 4_000  # frames of a batch of passes, above which launches cost little


class PassInput(NamedTuple):
    samples: Float32  # of the frames after the cached ones
    length: int  # frames
    cached: int  # of these, in the slot
    slot: Slot | None
    place: Place | None  # of its language


class PassEncoder:
    """Only the thread that runs the model uses it; `best` as in `readback.pack`."""

    def __init__(self, network: XlsrLayers, caches: CacheManager, runner: Runner, *, best: int | None = None) -> None:
        self._network = network
        self._caches = caches
        self._runner = runner
        self._best = best
        self._standby: Pool | None = None  # of passes without cached features: graphs read a pool

    def fits(self, length: int, others: Sequence[int], most: float) -> bool:
        """Whether an utterance may share a batch with others on a GPU, all in frames, of which it has `most`.

        Shapes are few: equal ones add no padding.
        """
        bank = self._network.languages.usual_heads() if self._network.languages else None
        family = self._family(self._standby, False, bank)
        own, first = (self._runner.fit(family, Shape(1, each, each)).queries for each in (length, others[0]))
        return own == first and own * (len(others) + 1) <= most

    def shapes(self, batches: Sequence[int], longest: int, most: float, *, recalls: bool) -> Iterator[Shape]:
        """Shapes to prepare, for utterances of up to `longest` frames and batches of `most`; `recalls`: whether passes
        read cached features."""
        last = next((length for length in _LENGTHS if length >= longest), _LENGTHS[-1])
        for length in (length for length in _LENGTHS if length <= last):
            for size in batches:
                if size == 1 or size * length <= min(GRAPHED, most):
                    for new in sorted({length, min(length, _RECALLED)} if recalls else {length}):
                        yield Shape(size, length, new)

    def with_head(self, weight: Tensor, bias: Tensor) -> PassEncoder:
        """Passes over the same layers, without adapters and graphs, to all rows of another head."""
        return PassEncoder(self._network.with_head(weight, bias), self._caches, EagerRunner(weight.device))

    def encode(
        self,
        batch: Sequence[Float32],
        cached: Sequence[CachedFeatures | None],
        languages: Sequence[str | None] | None = None,
        pause: Pause | None = None,
    ) -> list[Answer]:
        """Log-probabilities, (frames, vocabulary) float32, of normalized audio, (n,) with n of at least 400, from
        cached features where they exist, or an `EngineError` for output that is not finite. If all failed, raises the
        first of these errors. On a CPU `pause` may encode steps, since a pass has read the cache before its layers."""
        return collected(self.begin(batch, cached, languages, pause))

    @torch.inference_mode()
    def begin(
        self,
        batch: Sequence[Float32],
        cached: Sequence[CachedFeatures | None],
        languages: Sequence[str | None] | None = None,
        pause: Pause | None = None,
    ) -> Pending:
        """`encode` without its wait: call the result for the answers."""
        with ExitStack() as stack:
            places: Sequence[Place | None] = [None] * len(batch)
            if self._network.languages is not None:
                places = stack.enter_context(self._network.languages.lease(languages or [None] * len(batch)))
            utterances = [self._utterance(*each) for each in zip(batch, cached, places, strict=True)]
            groups: dict[object, list[int]] = {}
            for index, utterance in enumerate(utterances):
                groups.setdefault(self._group(utterance), []).append(index)
            started = [
                (members, self._start([utterances[index] for index in members], pause)) for members in groups.values()
            ]
            held = stack.pop_all()  # until the device has read the banks

        def finish() -> list[Answer]:
            with held:
                answers: dict[int, Answer] = {}
                for members, rows in started:
                    answers.update(zip(members, rows(), strict=True))
            return [answers[index] for index in range(len(batch))]

        return finish

    def _group(self, utterance: PassInput) -> tuple[object, ...]:
        """Equal for utterances that may share a batch: they have one pool, and heads that go together."""
        place = utterance.place
        pool = self._pool(utterance)
        return pool, place and place.bank, place and (None if place.bank.mixes else place.head)

    def _pool(self, utterance: PassInput) -> Pool | None:
        return utterance.slot.pool if utterance.slot else self._standby

    def _utterance(self, samples: Float32, features: CachedFeatures | None, place: Place | None) -> PassInput:
        count = frames(len(samples))
        slot = self._caches.get(features.cache.number) if features else None
        if features is None or slot is None or not slot.holds(features.frames):
            return PassInput(samples[: span(count)], count, 0, None, place)
        known = min(features.frames, count)
        rest = samples[known * STRIDE : span(count)] if known < count else samples[:0]
        return PassInput(rest, count, known, slot, place)

    def _start(self, utterances: Sequence[PassInput], pause: Pause | None) -> Pending:
        pool = self._pool(utterances[0])
        places = [utterance.place for utterance in utterances if utterance.place]
        bank = heads_of(places)
        lengths = [utterance.length for utterance in utterances]
        least = Shape(len(lengths), max(lengths), max(utterance.length - utterance.cached for utterance in utterances))
        shape = self._runner.fit(self._family(pool, False, bank), least)
        # Without padding no mask is needed. Graphs have one.
        full = not self._runner.overlaps and all(length == shape.queries for length in lengths)
        words = plan_passes(
            shape,
            [utterance.samples for utterance in utterances],
            lengths,
            [utterance.cached for utterance in utterances],
            [utterance.slot.index * utterance.slot.pool.cells if utterance.slot else 0 for utterance in utterances],
        )
        if bank:
            words += language_words(shape.batch, places)
        key = Key(self._family(pool, full, bank), shape)
        fetch = self._runner.start(key, partial(self._program, pool, shape, full, bank, pause=pause), words)
        width, tokens = bank.width if bank else self._network.vocabulary, [place.tokens for place in places]

        def finish() -> list[Answer]:
            return cut(unpack(fetch(), shape.batch, lengths, width, best=self._best, tokens=tokens), places)

        return finish

    # ── graphs ──

    def prepare(self, pool: Pool | None, shape: Shape, runner: GraphRunner) -> bool:
        """Capture passes of that shape, with features cached in `pool` if it is given; see `GraphRunner.prepare`."""
        self._standby = pool
        bank = self._network.languages.usual_heads() if self._network.languages else None
        columns = pass_columns(shape) + (LANGUAGE_COLUMNS if bank else ())
        words = shape.batch * (span(shape.new) + sum(columns))
        key = Key(self._family(pool, False, bank), shape)
        return runner.prepare(key, partial(self._program, pool, shape, False, bank), words)

    def _family(self, pool: Pool | None, full: bool, bank: HeadBank | None) -> Hashable:
        return "pass", pool and pool.version, full, bank and bank.width

    def _program(
        self,
        pool: Pool | None,
        shape: Shape,
        full: bool,
        bank: HeadBank | None,
        words: Tensor,
        *,
        pause: Pause | None = None,
    ) -> Tensor:
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
        attention = network.masked(_own, mask)
        for layer in range(len(network.layers)):
            if pause is not None:
                pause(layer / len(network.layers))
            x = network.layer(layer, x, attention, rows)
        return pack(network.log_probs(x, rows), valid.view(size, -1) > 0, best=self._best)[0]


def _own(layer: int, own: Tensor) -> Tensor:
    return own
