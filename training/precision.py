"""The number format of training: bfloat16 where the processor multiplies it, float32 elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final, cast

import torch

_PRODUCTS: Final = ("avx512_bf16", "amx_bf16", "bf16")  # instructions of x86-64, of x86-64 and of ARM


@cache
def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16. A CPU that does not emulates it, many times slower than
    float32."""
    if device.type != "cpu":
        return True
    read: Any = getattr(cast(Any, torch.cpu), "get_capabilities", dict)  # torch before 2.11 has none
    found: Mapping[str, Any] = read()
    return any(found.get(name) for name in _PRODUCTS)


def mixed(device: torch.device) -> torch.autocast:
    """Products in bfloat16 inside this context, where that is faster."""
    # No cache: all threads would share it, and a graph through it.
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device), cache_enabled=False)
