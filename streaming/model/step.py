"""Live steps that encode every frame about twice instead of ten times: cached keys and values, in batches.

XLS-R's positions enter once, by a convolution before the first layer; attention itself has no relative positions. So
the keys and values of past frames can be kept and used again, with no retraining (Transformer-XL, arXiv 1901.02860,
without its relative positions; for streaming with a lookahead: arXiv 2010.11395, 2407.04439). A CNN with layer norm is
local, so its frames are made once, from the new samples.

One step of an utterance: features of the frames [heard, newest) from new samples alone; the positional convolution over
them and the frames kept from before, with zeros beyond the newest as at the end of any input; then through the layers
go the frames [committed, newest) as queries, over the kept keys and values of up to `left_context` frames before them
and their own. Those of [committed, commit) are kept for the steps to come.

All utterances of a batch go through the same tensors, whatever their number: shapes depend on the geometry and on the
longest step alone, what is not there is masked, and all that differs is in indices made beforehand.
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
from .batching import Shape, evenly_long, plan_steps, step_columns
from .cache import NOWHERE, CacheManager, Pool, Slot, SlotShape
from .layers import XlsrLayers
from .readback import pack, unpack
from .runners import Runner, split_words

Float32 = NDArray[np.float32]


class StepEncoder:
    """Steps of all utterances, with what they leave at their `places`; `best` as in `answers`.

    Belongs to the thread that runs the model.
    """

    def __init__(self, body: XlsrLayers, places: CacheManager, programs: Runner, *, best: int | None = None) -> None:
        self.places = places
        self._body = body
        self._programs = programs
        self._best = best

    def fits(self, step: CachedStep, others: Sequence[CachedStep]) -> bool:
        """Whether a step may share a batch with others that do: of equal geometry, and little of it may be padding."""
        if others and SlotShape.of(step.cache) != SlotShape.of(others[0].cache):
            return False
        windows = [step.window, *(other.window for other in others)]
        lengths = [w.newest - w.committed for w in windows], [w.newest - w.encoded for w in windows]
        return all(map(evenly_long, lengths))

    @torch.inference_mode()
    def encode_steps(self, batch: Sequence[tuple[Float32, CachedStep]]) -> list[Float32]:
        """Take the next steps of different utterances, of equal geometry.

        Each is the window's new samples, (n,), normalised, and what they go on from. Returns log-probabilities of the
        frames `[committed, newest)`, (frames, vocabulary) float32, for each. Raises `EngineError` if the state of an
        utterance is not that of its previous step, or if there is no room for a new one. Unless it returns, the state
        of every utterance is as it was, or gone.
        """
        windows = [reuse.window for _, reuse in batch]
        places = [self._place(reuse) for _, reuse in batch]
        pool = places[0].pool
        if any(place.pool is not pool for place in places):
            raise ValueError("steps of different geometry in one batch")
        lengths = [window.newest - window.committed for window in windows]
        if max(lengths) > pool.geometry.longest:
            raise EngineError("this step is longer than the longest utterance was said to be")
        new, kept = max(w.newest - w.encoded for w in windows), max(w.commit - w.committed for w in windows)
        shape = self._shape(len(batch), max(lengths), new, kept)
        words = plan_steps(shape, [samples for samples, _ in batch], windows, places, self._body.reach)
        for place, window in zip(places, windows, strict=True):
            place.touched = max(place.touched, window.newest)
        answer = self._programs.run(("step", pool.version, shape), partial(self._step, pool, shape), words)
        rows = unpack(answer, shape.batch, self._body.vocabulary, best=self._best)
        if rows is None:  # and so nothing has been kept of it
            raise EngineError("the model's output is not finite")
        for place, window in zip(places, windows, strict=True):
            place.committed, place.heard = window.commit, window.newest
        return [row[:length] for row, length in zip(rows, lengths, strict=False)]

    @torch.inference_mode()
    def prepare(self, memory: CacheHandle, *, hop: int, utterances: int, most_batch: int) -> None:
        """Make room for so many utterances like that one, and spend now what their first steps would cost: those in
        the middle of an utterance, in batches of any size."""
        pool = self.places.reserve(SlotShape.of(memory), utterances)
        nobody = Slot(pool, NOWHERE)
        size = self._programs.batch(most_batch)
        while size:  # the largest first: the others then use its memory
            shape = self._shape(size, memory.lookahead + hop, hop, hop)
            silence = np.zeros(span(shape.new), np.float32)
            window = Window(0, 0, 0, 0, shape.queries, shape.queries - shape.new)
            words = plan_steps(shape, [silence], [window], [nobody], self._body.reach)
            self._programs.prepare(("step", pool.version, shape), partial(self._step, pool, shape), words)
            size //= 2

    def utterance_bytes(self, memory: CacheHandle) -> int:
        """What is remembered of one utterance takes so much."""
        return self._body.pool(SlotShape.of(memory)).slot_bytes

    def release(self, number: int) -> None:
        """Forget the utterance whose memory has that number; one that is not known is no error."""
        self.places.release(number)

    def _place(self, reuse: CachedStep) -> Slot:
        memory, window = reuse
        place = self.places.get(memory.number)
        if place is None:
            if window.encoded:
                raise EngineError("what the encoder remembered of this utterance is gone")
            return self.places.take(memory.number, SlotShape.of(memory))
        if (place.committed, place.heard) != (window.committed, window.encoded):
            raise EngineError("the steps of this utterance are not in order")
        return place

    def _shape(self, size: int, queries: int, new: int, kept: int) -> Shape:
        rounded = self._programs.frames
        return Shape(self._programs.batch(size), rounded(queries), rounded(new), rounded(kept))

    # ── the step, on the device ──

    def _step(self, pool: Pool, shape: Shape, words: Tensor) -> Tensor:
        body, (left, _) = self._body, pool.geometry
        columns = step_columns(shape, left, body.reach)
        audio, (slots, written, around, kept, counts, valid) = split_words(words, shape.batch, span(shape.new), columns)
        if shape.new:
            pool.features.index_copy_(0, written, body.features(audio).flatten(0, 1))
        near = pool.features.index_select(0, around).view(shape.batch, -1, body.hidden)
        mask = body.bias(counts.view(shape.batch, 1, 1, -1) > 0).expand(-1, -1, shape.queries, -1)
        fresh: list[Tensor] = []

        def context(layer: int, own: Tensor) -> Tensor:
            fresh.append(own[:, : shape.kept].flatten(0, 1))
            return after_kept(pool.keys_values[layer], slots, own)

        x = body.positioned(near)
        for layer in range(len(body.layers)):
            x = body.layer(layer, x, context, mask)
        answer, finite = pack(body.log_probs(x), valid.view(shape.batch, -1) > 0, best=self._best)
        if left:
            cells = kept * finite  # a step that fails leaves what was there, so that it can be tried again
            for ring, own in zip(pool.keys_values, fresh, strict=True):  # and nothing here could fail half-way
                ring.flatten(0, 1).index_copy_(0, cells, own)
        return answer


def after_kept(ring: Tensor, slots: Tensor, own: Tensor) -> Tensor:
    """Keys and values kept in those slots, (B, left, 2 * hidden), and then their own, (B, Q, 2 * hidden)."""
    left = ring.shape[1]
    whole = own.new_empty(len(own), left + own.shape[1], own.shape[2])
    torch.index_select(ring, 0, slots, out=whole[:, :left])
    whole[:, left:] = own
    return whole
