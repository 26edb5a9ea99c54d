"""Memory that nobody uses is free soon, and what is free goes back to the system.

glibc keeps what a program frees, in several places at once, and where sessions come and go these fragment: a server
grows for hours though it holds no more than before. So large pieces, as the model needs them, are taken from the system
and given back one by one (`mallopt(3)`: a fixed M_MMAP_THRESHOLD, which else grows to 32 MiB), and whole pages that are
free among the others now and then (`malloc_trim(3)`, in some milliseconds).
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from typing import Final

EVERY_S: Final = 5.0
LARGE: Final = 1 << 18  # bytes; half of it costs 15 % more CPU, for page faults
_M_MMAP_THRESHOLD: Final = -3


def settle() -> None:
    """What there is now, a model above all, is here to stay, and the collector of cycles need not look at it again.

    CPython looks at old objects only when a quarter as many have come to be old since (`gc.set_threshold`). Beside the
    hundreds of thousands that a model brings, that takes hours, in which sessions that were broken off wait with all
    that they hold: tracebacks keep them in cycles. For a process that is ours alone.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.collect()  # only a full collection counts anew how many there are


async def give_back() -> None:
    """Do so for ever; return at once where the C library is another."""
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        return
    libc.mallopt(_M_MMAP_THRESHOLD, LARGE)
    while True:
        await asyncio.sleep(EVERY_S)
        libc.malloc_trim(0)
