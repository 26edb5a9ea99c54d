"""Matrix products in 8-bit integers, for processors that have them: weights once when loaded, activations as they come.

A row of a weight (an output) and a row of an activation (a frame) have a scale each, symmetric around zero, so that
their largest magnitude is 127 (LLM.int8(), arXiv 2208.07339, without its outliers). Products are summed in 32-bit
integers, which is exact: a frame's result depends on that frame alone, whoever shares its batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_LARGEST = 127
_ZERO = 128  # what stands for 0 in the activations: the processor's instruction takes them unsigned
_ops: Any = torch.ops.onednn


def supported() -> bool:
    """Whether this processor sums 8-bit products in 32 bits; those before it saturate at 16, which is another sum."""
    return torch.backends.mkldnn.is_available() and torch.cpu._is_vnni_supported()  # pyright: ignore[reportPrivateUsage]


class Int8Linear(nn.Module):
    """About what an `nn.Linear` of these computes, (..., inputs) to (..., outputs) in any float type.

    `weight`: (outputs, inputs); `bias`: (outputs,).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        rows, scale = _quantized(weight.detach().float())
        self._weight = _ops.qlinear_prepack(rows.to(torch.int8), None)  # reordered, once, for the products
        self._scale = scale[:, 0].contiguous()
        self._zeros = torch.zeros(len(rows), dtype=torch.int32)
        self._bias = self._scale.new_zeros(len(rows)) if bias is None else bias.detach().float()

    def forward(self, x: Tensor) -> Tensor:
        rows, scale = _quantized(x.flatten(0, -2).float())
        codes = rows.add_(_ZERO).to(torch.uint8)
        sums: Tensor = _ops.qlinear_pointwise(
            codes, 1.0, _ZERO, self._weight, self._scale, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return torch.addcmul(self._bias, sums, scale).to(x.dtype).view(*x.shape[:-1], -1)


def quantize(module: nn.Module) -> None:
    """Replace every `nn.Linear` inside of `module`."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child.weight, child.bias))
        else:
            quantize(child)


def _quantized(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(n, width) as whole numbers of at most 127 in size, and what to multiply each row with, (n, 1)."""
    scale = rows.abs().amax(1, keepdim=True).clamp_min_(torch.finfo(torch.float32).tiny) / _LARGEST
    return (rows / scale).round_(), scale
