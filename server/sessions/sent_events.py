"""The newest events of a session, numbered from 0, for clients that resume."""

from __future__ import annotations

from collections import deque

from ..net.send_queue import MAX_BYTES
from ..transport import Data


class SentEvents:
    """Keeps the newest `limit` events, within `MAX_BYTES`."""

    def __init__(self, limit: int) -> None:
        self.count = 0  # number of all events, kept or not
        self.next = 0  # number of the event to send next
        self._limit = limit
        self._kept: deque[Data] = deque()
        self._bytes = 0  # of `_kept`

    def begin(self, number: int) -> None:
        """Number the first event so."""
        self.count = self.next = number

    def add(self, data: Data) -> None:
        self._kept.append(data)
        self.count += 1
        self._bytes += len(data)
        while len(self._kept) > 1 and (len(self._kept) > self._limit or self._bytes > MAX_BYTES):
            self._bytes -= len(self._kept.popleft())

    @property
    def pending(self) -> bool:
        """Whether there are unsent events."""
        return self.next < self.count

    def can_resume_at(self, number: int) -> bool:
        """Whether event `number` and all after it are kept."""
        return self.count - len(self._kept) <= number <= self.count

    def since(self, number: int) -> list[Data]:
        """Event `number` and all after it."""
        return list(self._kept)[len(self._kept) - (self.count - number) :]

    def __getitem__(self, number: int) -> Data:
        return self._kept[number - self.count]
