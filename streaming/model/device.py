"""Settings and memory of the device that runs the model."""

from __future__ import annotations

import re
from typing import Any, Final, cast

import torch

from ..config import DEVICE
from ..errors import ModelError

DEVICES: Final = "auto, cpu or cuda (cuda:1 for the second GPU, cuda:2 for the third)"
# Of the whole device, for the caches of one model: with less than half, a second model fits beside it during a reload,
# and gets as much.
_CACHE_SHARE: Final = 0.4
_SPARE_SHARE: Final = 0.1  # of the whole device, for graphs and for what a batch computes


def find_device(name: str) -> torch.device:
    """Raises `ModelError` if there is no such device here."""
    if re.fullmatch(DEVICE, name) is None:
        raise ModelError(f"{name!r} is not a device; use {DEVICES}")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = torch.device(name)
    if found.type == "cuda":
        if not torch.cuda.is_available():
            raise ModelError("no CUDA device is available here; use the device cpu")
        if (found.index or 0) >= torch.cuda.device_count():
            raise ModelError(f"there is no {name} here, only {torch.cuda.device_count()} CUDA devices, from cuda:0 on")
    return found


def set_up(device: torch.device) -> None:
    """Choose libraries for a CUDA device, in the whole process; nothing to do for a CPU."""
    if device.type != "cuda":
        return
    # cuDNN's attention builds a plan for each shape and thread, in the time of many steps.
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32; half precision does not use it


def used_memory(device: torch.device) -> int:
    """Bytes of a CUDA device that tensors and graphs take."""
    free, total = torch.cuda.mem_get_info(device)
    return total - free - _unused(device)


def cache_budget(device: torch.device) -> int:
    """Bytes that caches may take on a CUDA device, after the weights are there."""
    torch.cuda.empty_cache()  # also of the graphs of a closed model
    free, total = torch.cuda.mem_get_info(device)
    return budget(free + _unused(device), total)


def budget(free: int, total: int) -> int:
    """A share of the whole device, as far as it is free: beside a model that a reload replaces it is the same."""
    return max(0, min(int(_CACHE_SHARE * total), free - int(_SPARE_SHARE * total)))


def _unused(device: torch.device) -> int:
    """Bytes that torch holds for later tensors; the device counts them as used. The memory of graphs is not among them:
    replays write there.
    """
    index = device.index if ":" in str(device) else torch.cuda.current_device()
    segments: list[dict[str, Any]] = cast(Any, torch.cuda).memory_snapshot()
    own = [each for each in segments if each["device"] == index and tuple(each["segment_pool_id"]) == (0, 0)]
    return sum(each["total_size"] - each["allocated_size"] for each in own)
