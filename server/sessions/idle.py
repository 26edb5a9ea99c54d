"""A timer for clients that send nothing."""

from __future__ import annotations


class IdleTimer:
    """Runs while the server waits for the client's next message. Times are seconds on any one clock."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._since: float | None = None  # start of the wait; None while the server handles a message

    def start(self, now: float) -> None:
        self._since = now

    def stop(self) -> None:
        self._since = None

    def restart(self, now: float) -> None:
        """Start again from 0 if the timer runs."""
        if self._since is not None:
            self._since = now

    def remaining(self, now: float) -> float:
        """Seconds until the client exceeds the limit if it sends nothing."""
        return self.limit_s - (0.0 if self._since is None else now - self._since)
