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
and indices, computed in advance, hold all differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import EngineError
from ..frames import span
from ..requests import CachedStep, CacheHandle, Window
from .banks import HeadBank, LanguageRows
from .batching import LANGUAGE_COLUMNS, Shape, evenly_long, language_words, plan_steps, step_columns
from .cache import NOWHERE, CacheManager, Pool, Slot, SlotShape
from .languages import Place
from .layers import XlsrLayers
from .readback import pack, unpack
from .runners import Runner, split_words

Float32 = NDArray[np.float32]


class StepEncoder:
    """Encodes live steps, whose state lies in `caches`; `best` as in `readback.pack`.

    Only the thread that runs the model uses it.
    """

    def __init__(self, network: XlsrLayers, caches: CacheManager, runner: Runner, *, best: int | None = None) -> None:
        self.caches = caches
        self._network = network
        self._runner = runner
        self._best = best

    def fits(self, step: CachedStep, others: Sequence[CachedStep]) -> bool:
        """Whether a step may share a batch with others that do: equal slot shapes and little padding."""
        if others and SlotShape.of(step.cache) != SlotShape.of(others[0].cache):
            return False
        languages, spoken = self._network.languages, {each.cache.language for each in others}
        if languages and not all(languages.together(step.cache.language, each) for each in spoken):
            return False
        windows = [step.window, *(other.window for other in others)]
        lengths = [w.newest - w.committed for w in windows], [w.newest - w.encoded for w in windows]
        return all(map(evenly_long, lengths))

    @torch.inference_mode()
    def encode_steps(self, batch: Sequence[tuple[Float32, CachedStep]]) -> list[Float32]:
        """Encode the next steps of different utterances with equal slot shapes.

        Each has the window's new samples, (n,), normalized, and its `CachedStep`. Returns the log-probabilities of the
        frames `[committed, newest)`, (frames, vocabulary) float32, for each. Raises `EngineError` if a cache is not in
        the state after its previous step, or if there is no room for a new one. Then all caches are unchanged or gone.
        """
        languages = self._network.languages
        if languages is None:
            return self._encode(batch, ())
        with languages.lease([reuse.cache.language for _, reuse in batch]) as places:
            return self._encode(batch, places)

    def _encode(self, batch: Sequence[tuple[Float32, CachedStep]], places: Sequence[Place]) -> list[Float32]:
        windows = [reuse.window for _, reuse in batch]
        bank = heads_of(places)
        slots = [self._slot(reuse) for _, reuse in batch]
        pool = slots[0].pool
        if any(slot.pool is not pool for slot in slots):
            raise ValueError("steps with different slot shapes in one batch")
        lengths = [window.newest - window.committed for window in windows]
        if max(lengths) > pool.shape.longest:
            raise EngineError("this step is longer than the declared longest utterance")
        new, kept = max(w.newest - w.encoded for w in windows), max(w.commit - w.committed for w in windows)
        shape = self._shape(len(batch), max(lengths), new, kept)
        words = plan_steps(shape, [samples for samples, _ in batch], windows, slots, self._network.reach)
        if bank:
            words += language_words(shape.batch, places)
        for slot, window in zip(slots, windows, strict=True):
            slot.touched = max(slot.touched, window.newest)
        key = ("step", pool.version, shape, bank and bank.width)
        answer = self._runner.run(key, partial(self._step, pool, shape, bank), words)
        width, tokens = bank.width if bank else self._network.vocabulary, [place.tokens for place in places]
        rows = unpack(answer, shape.batch, width, best=self._best, tokens=tokens)
        if rows is None:  # the cache has not changed then
            raise EngineError("the model's output is not finite")
        for slot, window in zip(slots, windows, strict=True):
            slot.committed, slot.encoded = window.commit, window.newest
        return cut(rows, lengths, places)

    @torch.inference_mode()
    def prepare(self, handle: CacheHandle, *, hop: int, utterances: int, most_batch: int) -> None:
        """Make room for that many utterances like this one, and prepare the runner for steps in the middle of an
        utterance, in batches of any size: the first steps then cost no more than later ones."""
        pool = self.caches.reserve(SlotShape.of(handle), utterances)
        dummy = Slot(pool, NOWHERE)
        bank = self._network.languages.usual_heads() if self._network.languages else None
        size = self._runner.batch(most_batch)
        while size:  # the largest first: the others reuse its memory
            shape = self._shape(size, handle.lookahead + hop, hop, hop)
            silence = np.zeros(span(shape.new), np.float32)
            window = Window(0, 0, 0, 0, shape.queries, shape.queries - shape.new)
            words = plan_steps(shape, [silence], [window], [dummy], self._network.reach)
            if bank:
                words += language_words(size, ())
            key = ("step", pool.version, shape, bank and bank.width)
            self._runner.prepare(key, partial(self._step, pool, shape, bank), words)
            size //= 2

    def utterance_bytes(self, handle: CacheHandle) -> int:
        """Size of one utterance's cache."""
        return self._network.pool(SlotShape.of(handle)).slot_bytes

    def release(self, number: int) -> None:
        """Free the cache with that number, if there is one."""
        self.caches.release(number)

    def _slot(self, reuse: CachedStep) -> Slot:
        handle, window = reuse
        slot = self.caches.get(handle.number)
        if slot is None:
            if window.encoded:
                raise EngineError("the cache of this utterance is gone")
            return self.caches.take(handle.number, SlotShape.of(handle))
        if (slot.committed, slot.encoded) != (window.committed, window.encoded):
            raise EngineError("the steps of this utterance are not in order")
        return slot

    def _shape(self, size: int, queries: int, new: int, kept: int) -> Shape:
        rounded = self._runner.frames
        return Shape(self._runner.batch(size), rounded(queries), rounded(new), rounded(kept))

    # ── the step, on the device ──

    def _step(self, pool: Pool, shape: Shape, bank: HeadBank | None, words: Tensor) -> Tensor:
        network, (left, _) = self._network, pool.shape
        columns = step_columns(shape, left, network.reach) + (LANGUAGE_COLUMNS if bank else ())
        audio, (slots, written, around, kept, valid_keys, valid, *languages) = split_words(
            words, shape.batch, span(shape.new), columns
        )
        rows = LanguageRows(languages[0], languages[1], bank) if bank else None
        if shape.new:
            pool.features.index_copy_(0, written, network.features(audio).flatten(0, 1))
        near = pool.features.index_select(0, around).view(shape.batch, -1, network.hidden)
        mask = network.bias(valid_keys.view(shape.batch, 1, 1, -1) > 0).expand(-1, -1, shape.queries, -1)
        fresh: list[Tensor] = []

        def context(layer: int, own: Tensor) -> Tensor:
            fresh.append(own[:, : shape.kept].flatten(0, 1))
            return with_cached(pool.keys_values[layer], slots, own)

        x = network.positioned(near)
        for layer in range(len(network.layers)):
            x = network.layer(layer, x, context, mask, rows)
        answer, finite = pack(network.log_probs(x, rows), valid.view(shape.batch, -1) > 0, best=self._best)
        if left:
            cells = kept * finite  # a step that fails changes nothing, so it can run again
            for ring, own in zip(pool.keys_values, fresh, strict=True):  # nothing here can fail half-way
                ring.flatten(0, 1).index_copy_(0, cells, own)
        return answer


def heads_of(places: Sequence[Place]) -> HeadBank | None:
    """The bank of a batch's heads; None without languages."""
    banks = {id(place.bank): place.bank for place in places}
    if len(banks) > 1 or any(not bank.mixes and len({place.head for place in places}) > 1 for bank in banks.values()):
        raise ValueError("heads of different widths in one batch")
    return next(iter(banks.values()), None)


def cut(rows: Float32, lengths: Sequence[int], places: Sequence[Place]) -> list[Float32]:
    """Rows of each utterance of a batch, (B, T, width), without padding."""
    cut = [row[:length] for row, length in zip(rows, lengths, strict=False)]
    return [row[:, : place.tokens] for row, place in zip(cut, places, strict=True)] if places else cut


def with_cached(ring: Tensor, slots: Tensor, own: Tensor) -> Tensor:
    """Cached keys and values of those slots, (B, left, 2 * hidden), followed by the step's own, (B, Q, 2 * hidden)."""
    left = ring.shape[1]
    whole = own.new_empty(len(own), left + own.shape[1], own.shape[2])
    torch.index_select(ring, 0, slots, out=whole[:, :left])
    whole[:, left:] = own
    return whole
