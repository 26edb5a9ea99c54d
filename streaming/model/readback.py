"""Reading answers back from the device: rows of log-probabilities, or only the best tokens of large vocabularies.

A decoder wants dense rows, but in a vocabulary of thousands almost all of a row is noise that costs transfer time. So
only the `BEST` tokens of each frame come back, and the other tokens share the remaining probability evenly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]

BEST = 64


def pack(rows: Tensor, valid: Tensor, *, best: int | None) -> tuple[Tensor, Tensor]:
    """Log-probabilities, (B, T, vocabulary) float32, as one array of 32-bit words on the device, and whether all rows
    that are `valid`, (B, T) bool, are finite; the first word says so too. `best` None keeps all tokens."""
    finite = (rows.isfinite().all(-1) | ~valid).all()
    flag = finite.view(1).int()
    if best is None or best >= rows.shape[-1]:
        return torch.cat((flag, rows.flatten().view(torch.int32))), finite
    top = rows.topk(best, dim=-1)
    return torch.cat((flag, top.values.flatten().view(torch.int32), top.indices.flatten().int())), finite


def unpack(
    words: Int32, size: int, vocabulary: int, *, best: int | None, tokens: Sequence[int] | None = None
) -> Float32 | None:
    """Rows, (size, T, vocabulary), from the words of `pack`; None if they are not finite. `tokens`, for each of the
    first rows, counts those that are not padding."""
    if not words[0]:
        return None
    if best is None or best >= vocabulary:
        return words[1:].view(np.float32).reshape(size, -1, vocabulary)
    half = len(words) // 2 + 1
    values = words[1:half].view(np.float32).reshape(-1, best)
    rest = np.maximum(1 - np.exp(values.astype(np.float64)).sum(1), np.finfo(np.float32).tiny)
    others = np.full(size, vocabulary, np.float64)
    others[: len(tokens or ())] = tokens or ()
    others = np.repeat(np.maximum(others - best, 1), len(rest) // size)
    floor = np.minimum(np.log(rest / others), values.min(1)).astype(np.float32)
    rows = np.repeat(floor[:, None], vocabulary, 1)
    np.put_along_axis(rows, words[half:].reshape(-1, best), values, 1)
    return cast(Float32, rows.reshape(size, -1, vocabulary))
