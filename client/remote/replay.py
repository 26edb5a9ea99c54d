"""Keeps sent but unacknowledged messages, to send them again after a broken connection."""

from __future__ import annotations

from collections import deque
from typing import Final

LIMIT_BYTES: Final = 16 << 20  # 9 minutes of 16 kHz 16-bit mono; at the limit the sender waits


class ReplayBuffer:
    """Audio and the messages between it, in order. A sample has `sample_bytes` bytes, over all channels."""

    def __init__(self, sample_bytes: int, limit: int = LIMIT_BYTES) -> None:
        self._sample_bytes = sample_bytes
        self._limit = limit
        self._messages: deque[tuple[int, bytes | str]] = deque()  # (end in bytes of audio, message)
        self._end = 0  # position after the last message
        self._size = 0  # bytes of all messages
        self._enabled = True

    @property
    def full(self) -> bool:
        """Whether sending must wait for an acknowledgement."""
        return self._size >= self._limit

    def add(self, message: bytes | str) -> None:
        """Keep a message; call before sending it."""
        if self._enabled:
            self._end += len(message) if isinstance(message, bytes) else 0
            self._size += len(message)
            self._messages.append((self._end, message))

    def acknowledge(self, samples: int) -> None:
        """Drop messages that the server has received. A text message at exactly this position may be missing."""
        received = samples * self._sample_bytes
        while self._messages and self._messages[0][0] <= received:
            end, message = self._messages[0]
            if end == received and isinstance(message, str):
                return
            self._messages.popleft()
            self._size -= len(message)

    def since(self, samples: int) -> list[bytes | str]:
        """The messages to send again to a server that has received `samples`."""
        self.acknowledge(samples)
        received = samples * self._sample_bytes
        rest: list[bytes | str] = []
        for end, message in self._messages:
            overlap = received - (end - len(message)) if isinstance(message, bytes) else 0
            if isinstance(message, str):
                rest.append(message)
            elif overlap < len(message):
                rest.append(message[max(0, overlap) :])
        return rest

    def disable(self) -> None:
        """Keep no messages: the session cannot be resumed."""
        self._enabled, self._size = False, 0
        self._messages.clear()
