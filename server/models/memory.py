"""GPU memory of the process that runs the model."""

from __future__ import annotations

import sys
from typing import Any


def gpu_memory(device: str) -> dict[str, int]:
    """Bytes by kind; empty without a GPU, and on a broken one."""
    if not device.startswith("cuda"):
        return {}
    cuda: Any = sys.modules["torch"].cuda
    try:
        free, total = cuda.mem_get_info(device)
    except RuntimeError:  # every CUDA call fails on a broken device
        return {}
    return {
        "allocated": cuda.memory_allocated(device),
        "reserved": cuda.memory_reserved(device),
        "free": free,
        "total": total,
    }
