"""Memory that is free goes back to the system.

glibc keeps what a program frees, in several places at once, and where sessions come and go these fragment: a server
grows for hours though it holds no more than before. So large pieces, as the model needs them, are taken from the system
and given back one by one (`mallopt(3)`: a fixed M_MMAP_THRESHOLD, which else grows to 32 MiB), and whole pages that are
free among the others now and then (`malloc_trim(3)`, in some milliseconds).
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
from typing import Final

EVERY_S: Final = 15.0
LARGE: Final = 1 << 20  # bytes
_M_MMAP_THRESHOLD: Final = -3


async def give_back() -> None:
    """Do so for ever; return at once where the C library is another."""
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        return
    libc.mallopt(_M_MMAP_THRESHOLD, LARGE)
    while True:
        await asyncio.sleep(EVERY_S)
        libc.malloc_trim(0)
