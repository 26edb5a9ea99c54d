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
    if best is None or best >= rows.shape[-1]:
        return torch.cat((finite.int(), rows.flatten().view(torch.int32))), finite
    values, tokens = rows.topk(best, dim=-1)
    rest = (1 - values.double().exp().sum(-1)).clamp_min(torch.finfo(torch.float32).tiny).log().float()
    parts = rest.view(torch.int32), values.view(torch.int32), tokens.int()
    return torch.cat((finite.int(), *(part.flatten() for part in parts))), finite


def unpack(
    words: Int32, size: int, lengths: Sequence[int], vocabulary: int, *, best: int | None, tokens: Sequence[int] = ()
) -> list[Float32 | None]:
    """Rows, (length, vocabulary), of the first utterances of a batch of `size`, from the words of `pack`; None for one
    whose rows are not finite. `tokens`, for each, counts those that are not padding."""
    finite, words = words[:size], words[size:]
    if best is None or best >= vocabulary:
        dense = words.view(np.float32).reshape(size, -1, vocabulary)
        return [row[:length] if good else None for row, length, good in zip(dense, lengths, finite, strict=False)]
    frames = len(words) // (2 * best + 1)
    rest = words[:frames].view(np.float32).reshape(size, -1)
    values = words[frames : frames * (best + 1)].view(np.float32).reshape(size, -1, best)
    places = words[frames * (best + 1) :].reshape(size, -1, best)
    good = [index for index in range(len(lengths)) if finite[index]]
    counts = [lengths[index] for index in good]
    values = np.concatenate([values[index, : lengths[index]] for index in good] or [values[:0, 0]])
    places = np.concatenate([places[index, : lengths[index]] for index in good] or [places[:0, 0]])
    others = np.repeat([max((tokens[index] if tokens else vocabulary) - best, 1) for index in good], counts)
    floor = np.concatenate([rest[index, : lengths[index]] for index in good] or [rest[:0, 0]])
    floor = np.minimum(floor - np.log(others, dtype=np.float32), values[:, -1])
    rows = np.empty((len(floor), vocabulary), np.float32)  # one array: large ones have large pages
    rows[:] = floor[:, None]
    rows.ravel()[places + np.arange(0, rows.size, vocabulary)[:, None]] = values
    found: list[Float32 | None] = [None] * len(lengths)
    ends = np.cumsum(counts)
    for index, count, end in zip(good, counts, ends, strict=True):
        found[index] = rows[end - count : end]
    return found
