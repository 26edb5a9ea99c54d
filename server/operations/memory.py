"""Memory: prompt collection of ended sessions, and free memory returned to the operating system."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from typing import Final

INTERVAL_S: Final = 5.0
MMAP_THRESHOLD: Final = 1 << 18  # bytes; half of it costs 15 % more CPU, for page faults
_M_MMAP_THRESHOLD: Final = -3  # mallopt's parameter


def freeze_loaded() -> None:
    """Exclude all current objects, mainly the model, from garbage collection. Only for processes of this program.

    CPython collects old objects only after a quarter as many new ones have survived (`gc.set_threshold`). A model adds
    hundreds of thousands, so a full collection would take hours to come; until then aborted sessions, which tracebacks
    hold in cycles, would keep their memory.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.collect()  # resets the collector's count of old objects


async def trim_memory() -> None:
    """Return free memory to the system, forever. With another C library than glibc it returns at once.

    glibc keeps freed memory in several arenas, which fragment as sessions begin and end: the process grows for hours
    although it uses no more memory. So large blocks are mapped separately (a fixed M_MMAP_THRESHOLD, `mallopt(3)`; by
    default it grows to 32 MiB), and free pages are returned regularly (`malloc_trim(3)`, a few milliseconds).
    """
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        return
    libc.mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
    while True:
        await asyncio.sleep(INTERVAL_S)
        libc.malloc_trim(0)
