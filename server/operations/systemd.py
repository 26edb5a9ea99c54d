"""Signals from a terminal or a service manager, and notifications to systemd."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager


def hangup_means_reload() -> bool:
    """Whether SIGHUP requests a reload. Not in a terminal, which sends it when it closes."""
    possible = hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread()
    return possible and not (sys.stdin is not None and sys.stdin.isatty())


@contextmanager
def deferred_hangups() -> Generator[list[int]]:
    """Collect SIGHUPs until the server has its handler: by default the first one ends the process."""
    received: list[int] = []
    if not hangup_means_reload():
        yield received
        return
    before = signal.signal(signal.SIGHUP, lambda number, _: received.append(number))
    try:
        yield received
    finally:
        signal.signal(signal.SIGHUP, before or signal.SIG_DFL)


def notify_systemd(state: str) -> None:
    """Send a state to systemd, for services of `Type=notify` (`sd_notify(3)`)."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(state.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
