"""Memory that is free goes back to the system.

glibc keeps what a program frees, in several places at once, and where sessions come and go these fragment: a server
grows for hours though it holds no more than before. `malloc_trim(3)` gives whole free pages back, in some milliseconds.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
from typing import Final

EVERY_S: Final = 15.0


async def give_back() -> None:
    """Do so for ever; return at once where the C library is another."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    while trim is not None:
        await asyncio.sleep(EVERY_S)
        trim(0)
