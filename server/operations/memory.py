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
    """Exclude all present objects, above all the model, from garbage collection. For processes that are ours alone.

    CPython collects old objects only once a quarter as many new ones have survived (`gc.set_threshold`). A model brings
    hundreds of thousands, so a full collection would come after hours; until then aborted sessions, which tracebacks
    hold in cycles, would keep their memory.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.collect()  # resets the collector's count of old objects


async def trim_memory() -> None:
    """Return free memory to the system, for ever; with another C library than glibc, return at once.

    glibc keeps freed memory in several arenas, which fragment as sessions come and go: a server grows for hours without
    holding more. So large blocks are mapped one by one (a fixed M_MMAP_THRESHOLD, `mallopt(3)`; by default it grows to
    32 MiB), and free pages go back regularly (`malloc_trim(3)`, which takes some milliseconds).
    """
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        return
    libc.mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
    while True:
        await asyncio.sleep(INTERVAL_S)
        libc.malloc_trim(0)
