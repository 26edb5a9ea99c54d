"""Adapters and heads of several languages side by side, applied to each row of a batch by its slot.

A bank's tensors are allocated once and its slots are written in place, so CUDA graphs that read them stay valid. A row
names its slot in a tensor, so one graph serves every mixture of languages.
"""

from __future__ import annotations

from typing import Final, NamedTuple, cast

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
        layers, hidden, width = shape
        self.slots = slots
        self._hidden, self._width = hidden, width
        self._sizes = hidden, hidden, hidden * width, width, width * hidden, hidden
        # All tensors of an adapter side by side: one copy for each layer brings those of a batch's rows together.
        self._weights = torch.zeros(layers, slots, sum(self._sizes), device=device, dtype=dtype)

    @property
    def slot_bytes(self) -> int:
        return self._weights.nbytes // self.slots

    @torch.inference_mode()
    def write(self, slot: int, adapter: Adapter) -> None:
        down, up = adapter.down[0].transpose(1, 2), adapter.up[0].transpose(1, 2)  # so that products need no copy
        parts = *adapter.norm, down, adapter.down[1], up, adapter.up[1]
        self._weights[:, slot].copy_(torch.cat([part.flatten(1) for part in parts], 1))

    def adapt(self, layer: int, x: Tensor, slots: Tensor) -> Tensor:
        """What the adapters of a layer add to (B, T, hidden); `slots` is (B,)."""
        if alone(slots):
            norm, norm_bias, down, down_bias, up, up_bias = self._parts(self._weights[layer, int(slots[0])])
            x = layer_norm(x, (self._hidden,), norm, norm_bias)
            return torch.addmm(up_bias, torch.addmm(down_bias, x[0], down).relu_(), up)[None]
        norm, norm_bias, down, down_bias, up, up_bias = self._parts(self._weights[layer].index_select(0, slots))
        x = torch.addcmul(norm_bias[:, None], layer_norm(x, (self._hidden,)), norm[:, None])
        return torch.baddbmm(up_bias[:, None], torch.baddbmm(down_bias[:, None], x, down).relu_(), up)

    def _parts(self, weights: Tensor) -> tuple[Tensor, ...]:
        """Views of adapters, (..., sum of the sizes): weight and bias of the norm, of the way down and of that up."""
        parts = cast("tuple[Tensor, ...]", weights.split(self._sizes, -1))
        norm, norm_bias, down, down_bias, up, up_bias = parts
        down = down.view(*down.shape[:-1], self._hidden, self._width)
        return norm, norm_bias, down, down_bias, up.view(*up.shape[:-1], self._width, self._hidden), up_bias


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
