"""Who reads and writes what in a batch, as arrays of 32-bit words: a single copy to the device.

Tensors of a batch have shapes that depend on its `Shape` alone; all that differs between utterances, and between one
time and the next, is in these words. What an utterance does not have is zero, masked, or written `NOWHERE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..frames import span
from ..requests import Window
from .cache import NOWHERE, ZERO, Slot

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]

_MOST_PADDING = 0.25  # of a batch, as a share of what is in it


class Shape(NamedTuple):
    """Of a batch of steps or passes; in frames."""

    batch: int
    queries: int  # frames that go through the layers
    new: int  # frames that go through the CNN
    kept: int = 0  # queries whose keys and values may be kept, the first ones


def evenly_long(lengths: Sequence[int]) -> bool:
    """Whether audio or steps of these lengths may share a batch: little of it would be padding."""
    return max(lengths) * len(lengths) - sum(lengths) <= _MOST_PADDING * sum(lengths)


def step_columns(shape: Shape, left: int, reach: int) -> tuple[int, ...]:
    """Slot, cells of new features, cells of features around the committed edge, cells of keys and values to keep, keys
    that count, rows that count."""
    return 1, shape.new, reach + shape.queries, shape.kept, left + shape.queries, shape.queries


def plan_steps(
    shape: Shape, audio: Sequence[Float32], windows: Sequence[Window], places: Sequence[Slot], reach: int
) -> list[Int32]:
    """The words of steps in one pool, in the order of `step_columns`."""
    pool = places[0].pool
    left, cells = pool.geometry.left, pool.cells
    new = [window.newest - window.encoded for window in windows]
    dummy = (0, 0, 0, 0, shape.queries, shape.queries)  # hears silence; its rows are nobody's
    columns = [
        (p.slot, w.first, w.committed, w.commit, w.newest, w.encoded) for p, w in zip(places, windows, strict=True)
    ]
    columns += [dummy] * (shape.batch - len(windows))
    slot, first, committed, commit, newest, heard = np.array(columns, np.int32).T[:, :, None]
    ring = slot * cells

    frame = heard + np.arange(shape.new, dtype=np.int32)
    written = np.where((frame < newest) & (slot > 0), ring + frame % cells, NOWHERE)

    frame = committed + np.arange(-reach, shape.queries, dtype=np.int32)
    around = np.where((frame >= 0) & (frame < newest) & (slot > 0), ring + frame % cells, ZERO)

    frame = committed + np.arange(shape.kept, dtype=np.int32)
    keep = (frame < commit) & (frame >= commit - left)
    kept = np.where(keep, slot * left + frame % max(left, 1), NOWHERE)

    last = committed - 1
    inside = last - (last - np.arange(left, dtype=np.int32)) % max(left, 1) >= first  # the frame that a cell holds
    own = committed + np.arange(shape.queries, dtype=np.int32) < newest
    counts = np.concatenate((inside, own), axis=1)

    indices = slot, written, around, kept, counts, own & (slot > 0)
    return [*_audio(shape, audio, new), *(x.astype(np.int32, copy=False).ravel() for x in indices)]


def pass_columns(shape: Shape) -> tuple[int, ...]:
    """Cells of remembered features, rows of new ones, keys that count, rows that count."""
    return (shape.queries,) * 4


def plan_passes(
    shape: Shape, audio: Sequence[Float32], lengths: Sequence[int], known: Sequence[int], starts: Sequence[int]
) -> list[Int32]:
    """The words of whole passes over utterances of `lengths` frames, in the order of `pass_columns`. The first `known`
    frames of each are remembered in the cells from `starts` on; `audio` makes those after them."""
    columns = [*zip(lengths, known, starts, strict=True)]
    columns += [(0, 0, 0)] * (shape.batch - len(lengths))
    length, heard, start = np.array(columns, np.int32).T[:, :, None]
    frame = np.arange(shape.queries, dtype=np.int32)
    own = frame < length
    row = np.arange(shape.batch, dtype=np.int32)[:, None] * shape.new
    remembered = np.where(frame < heard, start + frame, ZERO)
    fresh = np.where((frame >= heard) & own, row + frame - heard, shape.batch * shape.new)  # the last row is zero
    counts = own | (length == 0)
    new = [n - k for n, k in zip(lengths, known, strict=True)]
    indices = remembered, fresh, counts, own
    return [*_audio(shape, audio, new), *(x.astype(np.int32, copy=False).ravel() for x in indices)]


def _audio(shape: Shape, audio: Sequence[Float32], new: Sequence[int]) -> list[Int32]:
    """Samples and silence in the order of (B, samples of `shape.new` frames): they are copied only once, to where the
    device takes them from."""
    if [len(samples) for samples in audio] != [span(count) for count in new]:
        raise ValueError(f"{[len(samples) for samples in audio]} samples for {list(new)} new frames")
    width = span(shape.new)
    blocks = [samples.view(np.int32) for samples in audio]
    silence = np.zeros(width * max(1, shape.batch - len(audio)), np.int32)
    if min(new) < shape.new:
        blocks = [part for block in blocks for part in (block, silence[: width - len(block)])]
    return [*blocks, silence[: width * (shape.batch - len(audio))]]
