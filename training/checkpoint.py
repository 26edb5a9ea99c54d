"""Checkpoints: a kill at any moment loses minutes, not the run."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a temporary file, then rename it: a reader sees the complete old file or the complete new one.

    Raises `OSError`; the old file then stays.
    """
    part = path.with_suffix(".part")
    try:
        with open(part, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except RuntimeError as error:  # torch hides the error of a full disk behind one of its own
        cause = error.__context__
        if not isinstance(cause, OSError):
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def restore(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)


def _trained(model: nn.Module) -> list[Tensor]:
    return [p.detach() for p in model.parameters() if p.requires_grad]


class Average:
    """Exponential moving average of the weights that train. It starts short, so that early evaluations are useful."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay, self.steps = decay, 0
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.steps += 1
        keep = min(self.decay, self.steps / (self.steps + 10))
        cast(Any, torch)._foreach_lerp_(list(self.weights.values()), _trained(model), 1 - keep)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange the average and the model's weights; call it again to undo."""
        for p, own in zip(_trained(model), self.weights.values(), strict=True):
            kept = p.clone()
            p.copy_(own)
            own.copy_(kept)

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps, "weights": self.weights}

    def load(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        for name, tensor in state["weights"].items():
            self.weights[name].copy_(tensor)


def append_history(path: Path, entry: dict[str, Any]) -> None:
    """Append one JSON object as a line, whole or not at all. Raises `OSError`."""
    line = json.dumps(entry).encode() + b"\n"
    with open(path, "ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if file.write(line) < len(line):
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
