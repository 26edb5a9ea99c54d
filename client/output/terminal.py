"""A mode of the terminal while a program draws on it."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TextIO


@contextmanager
def kept_output(out: TextIO) -> Generator[None]:
    """Ctrl-C drops no line that the terminal has not taken yet. Does nothing for anything else than a terminal in the
    foreground: in the background the change would stop the program."""
    try:
        import termios

        descriptor = out.fileno()
        ours = os.tcgetpgrp(descriptor) == os.getpgrp()
        free = ours and not termios.tcgetattr(descriptor)[3] & termios.NOFLSH
    except (ImportError, OSError, ValueError):  # Windows; a file; a stream of the program's own
        yield
        return

    def keep(kept: bool) -> None:
        with suppress(OSError, termios.error):  # the terminal was closed
            if free and os.tcgetpgrp(descriptor) == os.getpgrp():
                modes = termios.tcgetattr(descriptor)
                modes[3] = modes[3] | termios.NOFLSH if kept else modes[3] & ~termios.NOFLSH
                termios.tcsetattr(descriptor, termios.TCSANOW, modes)

    keep(True)
    try:
        yield
    finally:
        keep(False)
