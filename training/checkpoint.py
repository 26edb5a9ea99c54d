"""Checkpoints: a kill at any moment loses minutes, not the run."""

from __future__ import annotations

import json
import os
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import nn


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a temporary file, then rename it: a reader sees the complete old file or the complete new one."""
    part = path.with_suffix(".part")
    with open(part, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def restore(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)


def finished(state: dict[str, Any]) -> bool:
    """Return whether the rate of a decay has reached zero."""
    return state.get("done", False) or state["round"] >= state["decay_from"] + state.get("decay", 0)


def set_aside(path: Path) -> Path:
    """Rename a checkpoint and its history to the next free number; return the new path."""
    number = next(n for n in count(1) if not path.with_name(f"{path.stem}-{n}.pt").exists())
    for each in (path.with_suffix(".jsonl"), path):
        if each.exists():
            os.replace(each, each.with_name(f"{path.stem}-{number}{each.suffix}"))
    return path.with_name(f"{path.stem}-{number}.pt")


class Average:
    """Exponential moving average of the weights. It starts short, so that early evaluations are useful."""

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
        """Exchange the average and the model's weights; call it again to undo."""
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
    """Append one JSON object as a line."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
