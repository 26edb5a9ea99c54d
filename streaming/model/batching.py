"""The plan of a batch: which cells each utterance reads and writes, as 32-bit words that one copy moves to the device.

The shapes of a batch's tensors depend on its `Shape` alone; these words hold everything that differs between utterances
and between calls. What an utterance lacks is zero, masked, or written to `NOWHERE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..frames import span
from ..requests import Window
from .cache import NOWHERE, ZERO, Slot
from .languages import Place
from .shapes import Shape

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]

_MAX_PADDING = 0.25  # of a batch, as a share of its content


def evenly_long(lengths: Sequence[int]) -> bool:
    """Whether audio or steps of these lengths may share a batch, with little padding."""
    return max(lengths) * len(lengths) - sum(lengths) <= _MAX_PADDING * sum(lengths)


def step_columns(shape: Shape, left: int, reach: int) -> tuple[int, ...]:
    """Columns of a step's plan: slot, cells for new features, cells of features around the committed edge, cells for
    keys and values, valid keys, valid rows."""
    return 1, shape.new, reach + shape.queries, shape.kept, left + shape.queries, shape.queries


def plan_steps(
    shape: Shape, audio: Sequence[Float32], windows: Sequence[Window], slots: Sequence[Slot], reach: int
) -> list[Int32]:
    """The words of steps in one pool, in the order of `step_columns`."""
    pool = slots[0].pool
    left, cells = pool.shape.left, pool.cells
    new = [window.newest - window.encoded for window in windows]
    dummy = (0, 0, 0, 0, shape.queries, shape.queries, left)  # encodes silence; its rows are dropped
    columns = [
        (p.index, w.first, w.committed, w.commit, w.newest, w.encoded, p.ring)
        for p, w in zip(slots, windows, strict=True)
    ]
    columns += [dummy] * (shape.batch - len(windows))
    index, first, committed, commit, newest, encoded, size = np.array(columns, np.int32).T[:, :, None]
    size_or_1 = np.maximum(size, 1)
    ring = index * cells

    frame = encoded + np.arange(shape.new, dtype=np.int32)
    written = np.where((frame < newest) & (index > 0), ring + frame % cells, NOWHERE)

    frame = committed + np.arange(-reach, shape.queries, dtype=np.int32)
    around = np.where((frame >= 0) & (frame < newest) & (index > 0), ring + frame % cells, ZERO)

    frame = committed + np.arange(shape.kept, dtype=np.int32)
    keep = (frame < commit) & (frame >= commit - size)
    kept = np.where(keep, index * pool.kept_cells + frame % size_or_1, NOWHERE)

    last, cell = committed - 1, np.arange(left, dtype=np.int32)
    inside = (last - (last - cell) % size_or_1 >= first) & (cell < size)  # the frame that a cell holds
    own = committed + np.arange(shape.queries, dtype=np.int32) < newest
    valid_keys = np.concatenate((inside, own), axis=1)

    indices = index, written, around, kept, valid_keys, own & (index > 0)
    return [*_audio(shape, audio, new), *(x.astype(np.int32, copy=False).ravel() for x in indices)]


def packed_columns(shape: Shape) -> tuple[int, ...]:
    """Two more columns of a plan for packed attention: cells for the step's own keys and values, valid keys."""
    return shape.queries, 1


def packed_words(shape: Shape, windows: Sequence[Window], slots: Sequence[Slot]) -> list[Int32]:
    """The words of these columns. Valid keys are the first ones: those of the ring, and then the step's own."""
    cells = slots[0].pool.kept_cells
    columns = [(p.index, w.committed - w.first, w.newest - w.committed) for p, w in zip(slots, windows, strict=True)]
    columns += [(0, 0, 0)] * (shape.batch - len(windows))
    index, cached, own = np.array(columns, np.int32).T[:, :, None]
    frame = np.arange(shape.queries, dtype=np.int32)
    written = np.where(frame < own, index * cells + cached + frame, NOWHERE)
    return [written.ravel(), np.maximum(cached + own, 1).ravel()]


def language_words(batch: int, places: Sequence[Place]) -> list[Int32]:
    """Two more columns of any plan: each row's slots of adapters and of heads."""
    slots = np.zeros((2, batch), np.int32)
    slots[:, : len(places)] = [[place.adapter for place in places], [place.head for place in places]]
    return [*slots]


LANGUAGE_COLUMNS: Final = (1, 1)


def pass_columns(shape: Shape) -> tuple[int, ...]:
    """Columns of a pass's plan: cells of cached features, rows of new ones, valid keys, valid rows."""
    return (shape.queries,) * 4


def plan_passes(
    shape: Shape, audio: Sequence[Float32], lengths: Sequence[int], known: Sequence[int], starts: Sequence[int]
) -> list[Int32]:
    """The words of full passes over utterances of `lengths` frames, in the order of `pass_columns`. The cells from
    `starts` on hold the features of the first `known` frames; `audio` makes the others."""
    columns = [*zip(lengths, known, starts, strict=True)]
    columns += [(0, 0, 0)] * (shape.batch - len(lengths))
    length, encoded, start = np.array(columns, np.int32).T[:, :, None]
    frame = np.arange(shape.queries, dtype=np.int32)
    own = frame < length
    row = np.arange(shape.batch, dtype=np.int32)[:, None] * shape.new
    cached = np.where(frame < encoded, start + frame, ZERO)
    fresh = np.where((frame >= encoded) & own, row + frame - encoded, shape.batch * shape.new)  # the last row is zero
    valid_keys = own | (length == 0)
    new = [n - k for n, k in zip(lengths, known, strict=True)]
    indices = cached, fresh, valid_keys, own
    return [*_audio(shape, audio, new), *(x.astype(np.int32, copy=False).ravel() for x in indices)]


def _audio(shape: Shape, audio: Sequence[Float32], new: Sequence[int]) -> list[Int32]:
    """Samples and silence in the order of (B, samples of `shape.new` frames), without a copy of their own."""
    if [len(samples) for samples in audio] != [span(count) for count in new]:
        raise ValueError(f"{[len(samples) for samples in audio]} samples for {list(new)} new frames")
    width = span(shape.new)
    blocks = [samples.view(np.int32) for samples in audio]
    silence = np.zeros(width * max(1, shape.batch - len(audio)), np.int32)
    if min(new) < shape.new:
        blocks = [part for block in blocks for part in (block, silence[: width - len(block)])]
    return [*blocks, silence[: width * (shape.batch - len(audio))]]
