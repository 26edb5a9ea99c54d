"""Several processes, each with a GPU of its own, that train one model (`accelerate launch`); or only this one.

Every process makes the same plan and takes its share of the parts of each step; gradients are added, so all processes
have the same weights at every moment.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Processes:
    """The processes of a run. `accelerator` None is a single one."""

    def __init__(self, accelerator: Any = None) -> None:
        self._accelerator = accelerator
        self.count: int = accelerator.num_processes if accelerator else 1
        self.first: bool = not accelerator or accelerator.is_main_process

    @classmethod
    def launched(cls, *, cpu: bool) -> Processes:
        """Those that `accelerate launch` started, or this one."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        import accelerate

        patience = accelerate.InitProcessGroupKwargs(timeout=timedelta(days=1))  # the first one decodes and measures
        return cls(accelerate.Accelerator(cpu=cpu, kwargs_handlers=[patience]))

    @property
    def device(self) -> torch.device | None:
        """The device of this process; None leaves the choice."""
        return self._accelerator.device if self._accelerator else None

    def share(self, parts: Sequence[T]) -> Sequence[T]:
        """The parts of a step that this process computes."""
        return parts[self._accelerator.process_index :: self.count] if self._accelerator else parts

    def add(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        for tensor in tensors:
            tensor.copy_(self._accelerator.reduce(tensor, reduction="sum"))

    def same(self, value: float) -> float:
        """The largest of the processes' values, which all of them then share."""
        if not self._accelerator:
            return value
        own = torch.tensor([value], dtype=torch.float64, device=self._accelerator.device)
        return float(self._accelerator.gather(own).max())

    def any(self, value: bool) -> bool:
        """Whether it is so in any of the processes."""
        return self.same(float(value)) > 0 if self._accelerator else value

    def wait(self) -> None:
        """Until all processes are here."""
        if self._accelerator:
            self._accelerator.wait_for_everyone()
