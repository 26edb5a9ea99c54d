"""Saving so that a kill at any moment costs minutes, not the run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


def save(path: Path, state: dict[str, Any]) -> None:
    """Write beside `path`, then rename: a reader sees the old file or the new one, whole."""
    part = path.with_suffix(".part")
    with open(part, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def restore(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)


def warm_start(model: nn.Module, folder: Path) -> int:
    """Copy every tensor of the checkpoint in `folder` whose name and shape fit; the number of weights copied.

    From a model of another vocabulary or width that is the convolutional front end; from an export, everything.
    """
    own, copied = model.state_dict(), 0
    for name, tensor in load_file(folder / "model.safetensors").items():
        if name in own and own[name].shape == tensor.shape:
            own[name].copy_(tensor.to(own[name].dtype))
            copied += tensor.numel()
    return copied


class Average:
    """Exponential moving average of the weights; short at first, so that early evaluations mean something."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay, self.steps = decay, 0
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.steps += 1
        keep = min(self.decay, self.steps / (self.steps + 10))
        torch._foreach_lerp_(list(self.weights.values()), [p.detach() for p in model.parameters()], 1 - keep)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange the average and the model's weights; a second call undoes it."""
        for name, p in model.named_parameters():
            kept = p.detach().clone()
            p.copy_(self.weights[name])
            self.weights[name].copy_(kept)

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps, "weights": self.weights}

    def load(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        for name, tensor in state["weights"].items():
            self.weights[name].copy_(tensor)


def append_history(path: Path, entry: dict[str, Any]) -> None:
    """One JSON object per line."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def cpu_weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
