"""Adapters and heads of several languages side by side, applied to each row of a batch by its slot.

A bank's tensors are allocated once and its slots are written in place, so CUDA graphs that read them stay valid. A row
names its slot in a tensor, so one graph serves every mixture of languages.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from .adapters import Adapter, AdapterShape

NARROW: Final = (128, 512)  # widths of heads that may share a batch with others of the same width
_NEVER: Final = -1e9  # bias of outputs that pad a head: finite, and no probability


def head_width(tokens: int) -> int:
    """The width of the bank for a head with that many outputs."""
    return next((width for width in NARROW if tokens <= width), 1 << (tokens - 1).bit_length())


class AdapterBank:
    """Adapters in `slots` slots, in the model's float type."""

    def __init__(self, shape: AdapterShape, slots: int, *, device: torch.device, dtype: torch.dtype) -> None:
        self.slots = slots
        self._hidden = shape.hidden

        def room(*size: int) -> Tensor:
            return torch.zeros(shape.layers, slots, *size, device=device, dtype=dtype)

        self._norm = room(shape.hidden), room(shape.hidden)
        self._down = room(shape.hidden, shape.width), room(shape.width)  # transposed: products need no copy
        self._up = room(shape.width, shape.hidden), room(shape.hidden)

    @property
    def slot_bytes(self) -> int:
        tensors = (*self._norm, *self._down, *self._up)
        return sum(tensor.nbytes for tensor in tensors) // self.slots

    @torch.inference_mode()
    def write(self, slot: int, adapter: Adapter) -> None:
        for (weight, bias), (new_weight, new_bias) in (
            (self._norm, adapter.norm),
            (self._down, (adapter.down[0].transpose(1, 2), adapter.down[1])),
            (self._up, (adapter.up[0].transpose(1, 2), adapter.up[1])),
        ):
            weight[:, slot].copy_(new_weight)
            bias[:, slot].copy_(new_bias)

    def adapt(self, layer: int, x: Tensor, slots: Tensor) -> Tensor:
        """What the adapters of a layer add to (B, T, hidden); `slots` is (B,)."""
        parts = [tensor[layer] for tensor in (*self._norm, *self._down, *self._up)]
        if alone(slots):
            norm, norm_bias, down, down_bias, up, up_bias = (part[int(slots[0])] for part in parts)
            x = layer_norm(x, (self._hidden,), norm, norm_bias)
            return torch.addmm(up_bias, torch.addmm(down_bias, x[0], down).relu_(), up)[None]
        norm, norm_bias, down, down_bias, up, up_bias = (part.index_select(0, slots) for part in parts)
        x = torch.addcmul(norm_bias[:, None], layer_norm(x, (self._hidden,)), norm[:, None])
        return torch.baddbmm(up_bias[:, None], torch.baddbmm(down_bias[:, None], x, down).relu_(), up)


class HeadBank:
    """Heads of up to `width` outputs in `slots` slots, in float32. In a wide bank all rows of a batch have one
    language: copies of such heads for each row would take more time than the products."""

    def __init__(self, width: int, hidden: int, slots: int, device: torch.device) -> None:
        self.width = width
        self.slots = slots
        self._weight = torch.zeros(slots, width, hidden, device=device)
        self._bias = torch.full((slots, width), _NEVER, device=device)

    @property
    def mixes(self) -> bool:
        """Whether a batch may hold several languages."""
        return self.width <= NARROW[-1]

    @torch.inference_mode()
    def write(self, slot: int, weight: Tensor, bias: Tensor) -> None:
        self._weight[slot, : len(weight)].copy_(weight)
        self._weight[slot, len(weight) :] = 0
        self._bias[slot, : len(bias)].copy_(bias)
        self._bias[slot, len(bias) :] = _NEVER

    def log_probs(self, x: Tensor, slots: Tensor) -> Tensor:
        """(B, T, hidden) in float32 to (B, T, width); outputs beyond a language's tokens get no probability."""
        if alone(slots):
            slot = int(slots[0])
            logits = linear(x, self._weight[slot], self._bias[slot])
        elif self.mixes:
            weight, bias = self._weight.index_select(0, slots), self._bias.index_select(0, slots)
            logits = torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))
        else:
            first = slots[:1]
            logits = linear(x, self._weight.index_select(0, first)[0], self._bias.index_select(0, first)[0])
        return logits.log_softmax(-1)


class LanguageRows(NamedTuple):
    """The languages of a batch on the device."""

    adapters: Tensor  # (B,) slots in the bank of adapters
    heads: Tensor  # (B,) slots in `bank`
    bank: HeadBank


def alone(slots: Tensor) -> bool:
    """Whether a batch has one row whose slot can be read without waiting for a device: then views replace copies."""
    return len(slots) == 1 and slots.device.type == "cpu"
