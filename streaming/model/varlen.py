"""Attention over sequences of different lengths that lie one after another, without masks or padding.

On a GPU it is torch's `varlen_attn` (FlashAttention, arXiv 2307.08691; pages of keys as in arXiv 2309.06180). Elsewhere
a loop over the sequences computes the same, for tests.
"""

from __future__ import annotations

import inspect
from functools import cache
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


@cache
def _attention() -> Any:
    """torch's function, or None in an older torch. Its import takes a second, so only a GPU pays for it."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


def supported(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch has packed attention with pages for this device and number format."""
    return (
        device.type == "cuda"
        and dtype in (torch.bfloat16, torch.float16)
        and _attention() is not None
        and "block_table" in inspect.signature(_attention()).parameters
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def attend_pages(
    queries: Tensor, keys: Tensor, values: Tensor, starts: Tensor, used: Tensor, table: Tensor, longest: int
) -> Tensor:
    """Queries, (T, heads, width), of N sequences to what they attend to, of the same shape.

    `starts`, (N + 1,) int32, bounds the sequences' queries, of which one has `longest` at most. `table`, (N, P) int32,
    names the pages of keys and values, (pages, page, heads, width), of each; the first `used`, (N,) int32, are valid.
    """
    if queries.device.type == "cuda":
        most = table.shape[1] * keys.shape[1]
        return _attention()(
            queries, keys, values, starts, None, longest, most, seqused_k=used, block_table=table, num_splits=1
        )
    attended = torch.empty_like(queries)
    for row, ((start, end), count) in enumerate(zip(pairwise(_numbers(starts)), _numbers(used), strict=True)):
        own = [each[table[row]].flatten(0, 1)[:count] for each in (keys, values)]
        attended[start:end] = _one(queries[start:end], *own)
    return attended


def attend_packed(queries: Tensor, keys: Tensor, values: Tensor, starts: Tensor, longest: int) -> Tensor:
    """Each sequence's attention to itself; all are (T, heads, width), and `starts`, (N + 1,) int32, bounds them."""
    if queries.device.type == "cuda":
        return _attention()(queries, keys, values, starts, starts, longest, longest)
    attended = torch.zeros_like(queries)
    for start, end in pairwise(_numbers(starts)):
        attended[start:end] = _one(queries[start:end], keys[start:end], values[start:end])
    return attended


def _one(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    queries, keys, values = (each.transpose(0, 1)[None] for each in (queries, keys, values))
    return scaled_dot_product_attention(queries, keys, values)[0].transpose(0, 1)


def _numbers(tensor: Tensor) -> list[int]:
    return cast("list[int]", tensor.tolist())
