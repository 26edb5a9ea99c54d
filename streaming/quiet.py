"""Keeps native libraries from writing to the terminal."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager

_lock = threading.Lock()


@contextmanager
def quiet(*, any_thread: bool = True) -> Generator[None]:
    """Discard the stderr of native libraries inside the block, such as ALSA's list of missing devices.

    This silences the whole process. Without `any_thread` it works only in the main thread: a server reads files in
    other threads and must not lose log lines.
    """
    if not any_thread and threading.current_thread() is not threading.main_thread():
        yield
        return
    with _lock:  # two blocks at once would restore the wrong file
        sys.stderr.flush()
        stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            os.close(nowhere)
