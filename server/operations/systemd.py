"""What the one who started this process, a terminal or a service manager, tells it and is told."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager


def hangup_is_a_request() -> bool:
    """Whether SIGHUP asks for another model: a terminal that is closed sends it too, and then it means the end."""
    possible = hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread()
    return possible and not (sys.stdin is not None and sys.stdin.isatty())


@contextmanager
def held_hangups() -> Generator[list[int]]:
    """Those that come before there is another handler; the first would else end the process."""
    held: list[int] = []
    if not hangup_is_a_request():
        yield held
        return
    before = signal.signal(signal.SIGHUP, lambda number, _: held.append(number))
    try:
        yield held
    finally:
        signal.signal(signal.SIGHUP, before or signal.SIG_DFL)


def notify_systemd(state: str) -> None:
    """Tell systemd, if this is a service of `Type=notify` (`sd_notify(3)`)."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(state.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
