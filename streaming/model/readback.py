"""Reading answers back from the device: rows of log-probabilities, or only the best tokens of large vocabularies.

A decoder wants dense rows, but in a vocabulary of thousands almost all of a row is noise that costs transfer time. So
only the `BEST` tokens of each frame come back, and the other tokens share the remaining probability evenly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]

BEST = 64


def pack(rows: Tensor, valid: Tensor, *, best: int | None) -> tuple[Tensor, Tensor]:
    """Log-probabilities, (B, T, vocabulary) float32, as one array of 32-bit words on the device, and for each utterance
    whether all rows that are `valid`, (B, T) bool, are finite, (B,); the first words say so too. `best` None keeps all
    tokens."""
    finite = (rows.isfinite().all(-1) | ~valid).all(-1)
    return words_of(rows, finite, best=best), finite


def words_of(rows: Tensor, finite: Tensor, *, best: int | None) -> Tensor:
    """The words of `pack` if it is known which utterances are finite, (B,) bool."""
    if best is None or best >= rows.shape[-1]:
        return torch.cat((finite.int(), rows.flatten().view(torch.int32)))
    values, tokens = rows.topk(best, dim=-1)
    rest = (1 - values.double().exp().sum(-1)).clamp_min(torch.finfo(torch.float32).tiny).log().float()
    parts = rest.view(torch.int32), values.view(torch.int32), tokens.int()
    return torch.cat((finite.int(), *(part.flatten() for part in parts)))


def unpack(
    words: Int32,
    size: int,
    lengths: Sequence[int],
    vocabulary: int,
    *,
    best: int | None,
    tokens: Sequence[int] = (),
    starts: Sequence[int] | None = None,
) -> list[Float32 | None]:
    """Rows, (length, vocabulary), of the first utterances of a batch of `size`, from the words of `pack`; None for one
    whose rows are not finite. `tokens`, for each, counts those that are not padding. `starts` are their first rows
    among all rows of the batch; None: each has as many."""
    finite, words = words[:size], words[size:]
    few = best is not None and best < vocabulary
    frames = len(words) // (2 * best + 1 if best is not None and few else vocabulary)
    if starts is None:
        starts = range(0, frames, frames // size)
    ranges = [slice(start, start + length) for start, length in zip(starts, lengths, strict=False)]
    if best is None or not few:
        dense = words.view(np.float32).reshape(-1, vocabulary)
        return [dense[own] if good else None for own, good in zip(ranges, finite, strict=False)]
    good = [index for index in range(len(lengths)) if finite[index]]
    chosen = np.concatenate([np.arange(0), *(np.arange(ranges[index].start, ranges[index].stop) for index in good)])
    values = words[frames : frames * (best + 1)].view(np.float32).reshape(-1, best)[chosen]
    places = words[frames * (best + 1) :].reshape(-1, best)[chosen]
    counts = [lengths[index] for index in good]
    others = np.repeat([max((tokens[index] if tokens else vocabulary) - best, 1) for index in good], counts)
    floor = np.minimum(words[:frames].view(np.float32)[chosen] - np.log(others, dtype=np.float32), values[:, -1])
    rows = np.empty((len(floor), vocabulary), np.float32)  # one array: large ones have large pages
    rows[:] = floor[:, None]
    rows.ravel()[places + np.arange(0, rows.size, vocabulary)[:, None]] = values
    found: list[Float32 | None] = [None] * len(lengths)
    for index, count, end in zip(good, counts, np.cumsum(counts), strict=True):
        found[index] = rows[end - count : end]
    return found
