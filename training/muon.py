"""Muon (K. Jordan, kellerjordan.github.io/posts/muon), also for processors without instructions for bfloat16."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from .precision import has_bfloat16


def muon(matrices: Iterable[Tensor], *, rate: float, weight_decay: float) -> torch.optim.Muon:
    """torch's Muon with updates of the size of AdamW's; in float32 where the device would emulate bfloat16."""
    matrices = list(matrices)
    kind = torch.optim.Muon if all(has_bfloat16(each.device) for each in matrices) else Float32Muon
    return kind(matrices, lr=rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")


class Float32Muon(torch.optim.Muon):
    """The same steps and the same state; only the iteration has another number format."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._update(matrix, matrix.grad, group)

    def _update(self, matrix: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, momentum = self.state[matrix], group["momentum"]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient, memory_format=torch.preserve_format)
        average: Tensor = state["momentum_buffer"]
        average.lerp_(gradient, 1 - momentum)
        update = gradient.lerp(average, momentum) if group["nesterov"] else average
        update = _orthogonal(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.add_(update, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)  # "match_rms_adamw"


def _orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """About the nearest matrix with orthogonal rows or columns, by a Newton-Schulz iteration of the fifth order."""
    a, b, c = coefficients
    x = torch.nn.functional.normalize(matrix, dim=(0, 1), eps=eps)  # pyright: ignore[reportArgumentType]
    x = x.T if matrix.shape[0] > matrix.shape[1] else x
    for _ in range(steps):
        squared = x @ x.T
        x = torch.addmm(x, torch.addmm(squared, squared, squared, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x
