"""How much memory a training step needs, and how large a batch therefore may be.

The parts: weights, gradients, Adam's two moments and the running average in float32; for each part of a step that
runs at once, the weights in bfloat16 that autocast makes and its own gradients; and the activations that autograd
keeps. These are `KEPT` bytes a frame, layer and hidden unit, measured on XLS-R's widths (feed-forward layers four
times as wide); with recomputation only the input of each layer stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch

from ..streaming.frames import SAMPLE_RATE, STRIDE
from .errors import TrainingError

KEPT: Final = 60  # bytes, with products in bfloat16; twice as many in float32
KEPT_INPUT: Final = 4  # bytes: the layer's input in float32
STREAMED: Final = 2.5  # live steps encode lookahead frames twice and attend to longer sequences
PROGRAM: Final = 1e9  # bytes: libraries, their caches, evaluations
USABLE: Final = 0.8  # of the free memory
SMALL: Final = 50e6  # parameters: below, each thread has a part of the step; above, threads share one


@dataclass(frozen=True, slots=True)
class Fit:
    """How steps are cut so that they fit."""

    part_seconds: float  # padded audio of one part
    threads: int  # parts at once
    recompute: bool
    bytes: float  # of the whole run at its peak

    def __str__(self) -> str:
        how = ", activations computed twice" if self.recompute else ""
        at_once = f", {self.threads} at once" if self.threads > 1 else ""
        return f"{self.bytes / 1e9:.1f} GB of memory; parts of {self.part_seconds:.0f} s of audio{at_once}{how}"


def free_memory(device: torch.device) -> float:
    """Bytes that a program can use now."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    import psutil

    return float(psutil.virtual_memory().available)


def kept_per_second(config: Any, *, recompute: bool, bfloat16: bool) -> float:
    """Bytes that autograd keeps for a second of audio in one part of a step."""
    rate, layers, hidden = SAMPLE_RATE / STRIDE, config.num_hidden_layers, config.hidden_size
    kept = KEPT if bfloat16 else 2 * KEPT
    return STREAMED * rate * hidden * (kept * (1 if recompute else layers) + KEPT_INPUT * layers)


def passing_per_second(config: Any) -> float:
    """Bytes that the frozen CNN needs for a moment: input and output of its first layers in float32."""
    return SAMPLE_RATE / 5 * config.conv_dim[0] * 8


def fit(
    model: Any,
    *,
    free: float,
    longest: float,
    batch_seconds: float,
    threads: int,
    bfloat16: bool,
) -> Fit:
    """The largest parts that fit into `free` bytes, up to a whole step of `batch_seconds`.

    `longest` is the length of the longest recording in seconds, slowed down; one that is longer than a part is a part
    by itself. Raises `TrainingError` if the longest does not fit.
    """
    parameters = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    at_once = threads if parameters < SMALL and not _dropout(model.config) else 1
    fixed = PROGRAM + 4.0 * parameters + 16.0 * trained + at_once * (2.0 * parameters + 4.0 * trained)
    step = max(batch_seconds, longest)  # seconds of the largest step
    fewest = min(at_once * longest, step)  # seconds at once if each thread has the longest recording
    need = 0.0
    for recompute in (False, True):
        kept = kept_per_second(model.config, recompute=recompute, bfloat16=bfloat16)
        second = kept + passing_per_second(model.config)
        seconds = min(step, (USABLE * free - fixed) / second)
        if seconds >= fewest:
            return Fit(min(seconds, batch_seconds) / at_once, at_once, recompute, fixed + seconds * second)
        need = fixed + fewest * second
    raise TrainingError(
        f"training needs {need / USABLE / 1e9:.1f} GB of free memory, and {free / 1e9:.1f} GB are free; "
        + ("train less of the model with --lora" if trained > parameters / 2 else "take a smaller base")
    )


def _dropout(config: Any) -> float:
    """The highest dropout rate. Random numbers are drawn in order, which threads cannot share."""
    return max(config.hidden_dropout, config.activation_dropout, config.feat_proj_dropout)
