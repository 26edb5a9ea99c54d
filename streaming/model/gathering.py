"""Bringing the cached keys and values of a batch together."""

from __future__ import annotations

import torch
from torch import Tensor

_WIDE = torch.complex128  # 16 bytes


def with_cached(ring: Tensor, slots: Tensor, own: Tensor) -> Tensor:
    """Cached keys and values of those slots, (B, left, 2 * hidden), followed by the step's own, (B, Q, 2 * hidden)."""
    left = ring.shape[1]
    whole = own.new_empty(len(own), left + own.shape[1], own.shape[2])
    if own.device.type == "cpu":
        torch.index_select(ring, 0, slots, out=whole[:, :left])
    else:
        gather_wide(ring, slots, whole[:, :left])
    whole[:, left:] = own
    return whole


def gather_wide(ring: Tensor, slots: Tensor, out: Tensor) -> None:
    """`index_select` over the first dimension. On a GPU it moves one element per thread: here one of 16 bytes, of which
    each row must be a multiple."""
    torch.index_select(ring.view(_WIDE), 0, slots, out=out.view(_WIDE))
