"""Matrix products in 8-bit integers, on processors that support them.

Loading quantizes the weights; each call quantizes the activations. Each row of a weight (an output) and of an
activation (a frame) has its own scale, symmetric around zero, with a largest magnitude of 127 (LLM.int8(), arXiv
2208.07339, without its outliers). Sums in 32-bit integers are exact, so a frame's result never depends on the batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_LARGEST = 127
_ZERO = 128  # the code of 0 in activations: the processor's instruction takes them unsigned
_ops: Any = torch.ops.onednn


def supported() -> bool:
    """Whether this processor sums 8-bit products in 32 bits; older ones saturate at 16 bits, with wrong sums."""
    return torch.backends.mkldnn.is_available() and torch.cpu._is_vnni_supported()  # pyright: ignore[reportPrivateUsage]


class Int8Linear(nn.Module):
    """An approximation of the `nn.Linear` with these parameters, (..., inputs) to (..., outputs) in any float type.

    `weight`: (outputs, inputs); `bias`: (outputs,).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        rows, scale = _quantized(weight.detach().float())
        self._weight = _ops.qlinear_prepack(rows.to(torch.int8), None)  # in the order that the products need
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
    """Replace every `nn.Linear` inside `module`."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child.weight, child.bias))
        else:
            quantize(child)


def _quantized(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(n, width) as integers up to 127 in magnitude, and the scale of each row, (n, 1)."""
    scale = rows.abs().amax(1, keepdim=True).clamp_min_(torch.finfo(torch.float32).tiny) / _LARGEST
    return (rows / scale).round_(), scale
