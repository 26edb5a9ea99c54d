"""Live steps with cached keys and values, in batches: they encode every frame about twice instead of ten times.

XLS-R's positions enter once, through a convolution before the first layer; attention has no relative positions. So the
keys and values of past frames stay valid without retraining (Transformer-XL, arXiv 1901.02860, without its relative
positions; for streaming with a lookahead: arXiv 2010.11395, 2407.04439). A CNN with layer norm is local, so it computes
each frame once, from the new samples.

One step of an utterance computes the features of the frames [encoded, newest) from new samples. The positional
convolution runs over these and over cached features, with zeros after the newest frame as at the end of any input. The
frames [committed, newest) are the queries of the layers; the keys and values are their own and the cached ones of up to
`left_context` frames before. The step caches those of [committed, commit) for later steps.

All utterances of a batch share the same tensors. Their shapes depend only on the slot shape and the longest step; masks
and indices, computed in advance, hold all differences. A step that cannot run, or whose output is not finite, fails
alone: its cache is unchanged, and the other rows of the batch are right.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import EngineError
from ..frames import span
from ..requests import CachedStep, CacheHandle, Window
from .answers import Answer, Float32, Int32, Pending, collected, cut, heads_of
from .banks import HeadBank, LanguageRows
from .batching import LANGUAGE_COLUMNS, evenly_long, language_words, plan_steps, step_columns
from .cache import CacheManager, Pool, Slot
from .gathering import with_cached
from .languages import Place
from .layers import Attention, XlsrLayers
from .readback import pack, unpack
from .runners import GraphRunner, Key, Runner, split_words
from .shapes import Shape


class _Step(NamedTuple):
    row: int  # of the batch
    samples: Float32
    window: Window
    slot: Slot


class StepEncoder:
    """Encodes live steps, whose state lies in `caches`; `best` as in `readback.pack`.

    Only the thread that runs the model uses it.
    """

    def __init__(self, network: XlsrLayers, caches: CacheManager, runner: Runner, *, best: int | None = None) -> None:
        self.caches = caches
        self._network = network
        self._runner = runner
        self._best = best
        self._fits: dict[Shape, tuple[int, ...]] = {}

    def fits(self, step: CachedStep, others: Sequence[CachedStep]) -> bool:
        """Whether a step may share a batch with others that do: they lie in one pool, and little would be padding."""
        if not others:
            return True
        first = others[0]
        if self.caches.shape(step.cache) != self.caches.shape(first.cache):
            return False
        languages = self._network.languages
        if languages and not languages.together(step.cache.language, first.cache.language):
            return False
        if self._runner.overlaps and self.caches.reserved:  # shapes are few: equal ones add no padding
            return self._fitted(step) == self._fitted(first)
        windows = [step.window, *(other.window for other in others)]
        lengths = [w.newest - w.committed for w in windows], [w.newest - w.encoded for w in windows]
        return all(map(evenly_long, lengths))

    def encode_steps(self, batch: Sequence[tuple[Float32, CachedStep]]) -> list[Answer]:
        """Encode the next steps of different utterances with equal slot shapes.

        Each has the window's new samples, (n,), normalized, and its `CachedStep`. Returns the log-probabilities of the
        frames `[committed, newest)`, (frames, vocabulary) float32, for each, or an `EngineError` for a step that
        failed: it does not follow its cache's state, there is no room for a new cache, or its output is not finite. If
        all failed, raises the first of these errors. The caches of failed steps are unchanged or gone.
        """
        return collected(self.begin(batch))

    @torch.inference_mode()
    def begin(self, batch: Sequence[tuple[Float32, CachedStep]]) -> Pending:
        """`encode_steps` without its wait: call the result for the answers. No utterance may be in two batches at the
        same time."""
        languages = self._network.languages
        with ExitStack() as stack:
            places: Sequence[Place] = ()
            if languages is not None:
                places = stack.enter_context(languages.lease([reuse.cache.language for _, reuse in batch]))
            bank = heads_of(places)
            answers: list[Answer | None] = [None] * len(batch)
            steps: list[_Step] = []
            for index, (samples, reuse) in enumerate(batch):
                try:
                    steps.append(_Step(index, samples, reuse.window, self._slot(reuse)))
                except EngineError as error:
                    answers[index] = error
            fetch = self._start(steps, [places[step.row] for step in steps] if places else (), bank)
            held = stack.pop_all()  # until the device has read the banks

        def finish() -> list[Answer]:
            with held:
                for step, rows in zip(steps, fetch(), strict=True):
                    if isinstance(rows, EngineError):
                        answers[step.row] = rows  # the cache has not changed
                        continue
                    step.slot.committed, step.slot.encoded = step.window.commit, step.window.newest
                    answers[step.row] = rows
            return [answer for answer in answers if answer is not None]

        return finish

    def _start(self, steps: Sequence[_Step], places: Sequence[Place], bank: HeadBank | None) -> Pending:
        if not steps:
            return list
        pool = steps[0].slot.pool
        if any(step.slot.pool is not pool for step in steps):
            raise ValueError("steps with different slot shapes in one batch")
        windows = [step.window for step in steps]
        lengths = [window.newest - window.committed for window in windows]
        shape = self._runner.fit(self._family(pool, bank), _least(windows))
        samples = [step.samples for step in steps]
        words = self._plan(shape, samples, windows, [step.slot for step in steps])
        if bank:
            words += language_words(shape.batch, places)
        for step in steps:
            step.slot.touched = max(step.slot.touched, step.window.newest)
        key = Key(self._family(pool, bank), shape)
        fetch = self._runner.start(key, partial(self._step, pool, shape, bank), words)
        width, tokens = bank.width if bank else self._network.vocabulary, [place.tokens for place in places]

        def finish() -> list[Answer]:
            rows = unpack(fetch(), shape.batch, lengths, width, best=self._best, tokens=tokens)
            return cut(rows, places)

        return finish

    # ── graphs ──

    def prepare(self, pool: Pool, shape: Shape, runner: GraphRunner) -> bool:
        """Capture steps of that shape; see `GraphRunner.prepare`."""
        self._fits.clear()
        bank = self._network.languages.usual_heads() if self._network.languages else None
        columns = self._columns(pool, shape) + (LANGUAGE_COLUMNS if bank else ())
        words = shape.batch * (span(shape.new) + sum(columns))
        key = Key(self._family(pool, bank), shape)
        return runner.prepare(key, partial(self._step, pool, shape, bank), words)

    def _family(self, pool: Pool, bank: HeadBank | None) -> Hashable:
        return "step", pool.version, bank and bank.width

    def _fitted(self, step: CachedStep) -> tuple[int, ...]:
        """The frames of the shape in which a step runs alone."""
        languages, pool, least = self._network.languages, self.caches.reserved, _least([step.window])
        if least not in self._fits:
            assert pool
            bank = languages.usual_heads() if languages else None
            self._fits[least] = self._runner.fit(self._family(pool, bank), least)[1:]
        return self._fits[least]

    def utterance_bytes(self, handle: CacheHandle) -> int:
        """Size of one utterance's cache."""
        return self.caches.slot_bytes(handle)

    def release(self, number: int) -> None:
        """Free the cache with that number, if there is one."""
        self.caches.release(number)

    def _slot(self, reuse: CachedStep) -> Slot:
        """The slot of an utterance whose next step this is. Raises `EngineError`."""
        handle, window = reuse
        slot = self.caches.get(handle.number)
        if window.newest - window.committed > self.caches.shape(handle).longest:
            raise EngineError("this step is longer than the declared longest utterance")
        if slot is None:
            if window.encoded:
                raise EngineError("the cache of this utterance is gone")
            return self.caches.take(handle)
        if (slot.committed, slot.encoded) != (window.committed, window.encoded):
            raise EngineError("the steps of this utterance are not in order")
        return slot

    def _plan(
        self, shape: Shape, samples: Sequence[Float32], windows: Sequence[Window], slots: Sequence[Slot]
    ) -> list[Int32]:
        return plan_steps(shape, samples, windows, slots, self._network.reach)

    def _columns(self, pool: Pool, shape: Shape) -> tuple[int, ...]:
        return step_columns(shape, pool.shape.left, self._network.reach)

    # ── the step, on the device ──

    def _step(self, pool: Pool, shape: Shape, bank: HeadBank | None, words: Tensor) -> Tensor:
        network = self._network
        columns = self._columns(pool, shape) + (LANGUAGE_COLUMNS if bank else ())
        audio, (slots, written, around, kept, valid_keys, valid, *more) = split_words(
            words, shape.batch, span(shape.new), columns
        )
        rows = LanguageRows(more[-2], more[-1], bank) if bank else None
        if shape.new:
            pool.features.index_copy_(0, written, network.features(audio).flatten(0, 1))
        near = pool.features.index_select(0, around).view(shape.batch, -1, network.hidden)
        fresh: list[Tensor] = []
        attention = self._attention(pool, shape, fresh, slots, valid_keys, more)
        x = network.positioned(near)
        for layer in range(len(network.layers)):
            x = network.layer(layer, x, attention, rows)
        answer, finite = pack(network.log_probs(x, rows), valid.view(shape.batch, -1) > 0, best=self._best)
        if pool.shape.left:
            cells = (kept.view(shape.batch, -1) * finite[:, None]).flatten()  # a step that fails changes nothing
            for ring, own in zip(pool.keys_values, fresh, strict=True):  # nothing here can fail half-way
                ring.flatten(0, 1).index_copy_(0, cells, own)
        return answer

    def _attention(
        self, pool: Pool, shape: Shape, fresh: list[Tensor], slots: Tensor, valid_keys: Tensor, more: Sequence[Tensor]
    ) -> Attention:
        """Over cached keys and the step's own; adds to `fresh`, for each layer, what may stay in the cache."""
        mask = self._network.bias(valid_keys.view(shape.batch, 1, 1, -1) > 0).expand(-1, -1, shape.queries, -1)
        left = pool.shape.left

        def context(layer: int, own: Tensor) -> Tensor:
            fresh.append(own[:, : shape.kept].flatten(0, 1))
            return with_cached(pool.keys_values[layer][:, :left], slots, own)

        return self._network.masked(context, mask)


def _least(windows: Sequence[Window]) -> Shape:
    """The smallest shape for these steps."""
    lengths = (max(w.newest - w.committed for w in windows), max(w.newest - w.encoded for w in windows))
    return Shape(len(windows), *lengths, max(w.commit - w.committed for w in windows))
