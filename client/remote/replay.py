"""What a client has sent and the server may not have heard: to be sent again when a connection has broken."""

from __future__ import annotations

from collections import deque
from typing import Final

HELD_BYTES: Final = 16 << 20  # 9 minutes of 16 kHz 16-bit mono; beyond it the sender waits


class Replay:
    """Audio and the messages between it, in order. Samples are those of each channel, `sample_bytes` all of them."""

    def __init__(self, sample_bytes: int, limit: int = HELD_BYTES) -> None:
        self._sample_bytes = sample_bytes
        self._limit = limit
        self._messages: deque[tuple[int, bytes | str]] = deque()  # with the position after it, in bytes of audio
        self._end = 0
        self._held = 0  # bytes
        self._on = True

    @property
    def full(self) -> bool:
        """Whether no more should be sent until something has been acknowledged."""
        return self._held >= self._limit

    def add(self, message: bytes | str) -> None:
        """It is about to be sent."""
        if self._on:
            self._end += len(message) if isinstance(message, bytes) else 0
            self._held += len(message)
            self._messages.append((self._end, message))

    def acknowledge(self, samples: int) -> None:
        """The server has so much audio. Messages that stand right behind it may not have come yet."""
        heard = samples * self._sample_bytes
        while self._messages and self._messages[0][0] <= heard:
            end, message = self._messages[0]
            if end == heard and isinstance(message, str):
                return
            self._messages.popleft()
            self._held -= len(message)

    def since(self, samples: int) -> list[bytes | str]:
        """What to send again to a server that has so much audio."""
        self.acknowledge(samples)
        heard = samples * self._sample_bytes
        rest: list[bytes | str] = []
        for end, message in self._messages:
            late = heard - (end - len(message)) if isinstance(message, bytes) else 0  # bytes that it has already
            if late < len(message) or isinstance(message, str):
                rest.append(message[max(0, late) :] if isinstance(message, bytes) else message)
        return rest

    def stop(self) -> None:
        """Nothing can be sent again: keep nothing."""
        self._on, self._held = False, 0
        self._messages.clear()
