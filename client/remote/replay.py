"""Keeps sent messages, to send them again: to the same server after a broken connection, or to another server."""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec.structs import replace

from ...streaming.config import SessionConfig
from ...streaming.errors import ConfigError
from ...streaming.protocol.messages import Grammar, Hotwords, SetLanguage, parse

LIMIT_BYTES: Final = 16 << 20  # unacknowledged: 9 minutes of 16 kHz 16-bit mono; at the limit the sender waits
KEPT_BYTES: Final = 16 << 20  # acknowledged, for another server; beyond the limit the oldest is dropped

Message = bytes | str


class ReplayBuffer:
    """Audio and the messages between it, in order. A sample has `sample_bytes` bytes, over all channels.

    While it `keeps` them, acknowledged messages stay until they are before the `safe` sample. `config` holds the
    session's settings at that sample: `hotwords`, `grammar` and `set_language` messages before it have changed them.
    """

    def __init__(
        self,
        sample_bytes: int,
        config: SessionConfig | None = None,
        *,
        limit: int = LIMIT_BYTES,
        kept: int = KEPT_BYTES,
    ) -> None:
        self.config = config or SessionConfig()
        self.safe = 0  # sample
        self.keeps = False
        self._sample_bytes = sample_bytes
        self._limit = limit
        self._kept_limit = kept
        self._messages: deque[tuple[int, Message]] = deque()  # unacknowledged: (end in bytes of audio, message)
        self._kept: deque[tuple[int, Message]] = deque()  # acknowledged
        self._end = 0  # position after the last message
        self._size = 0  # bytes of `_messages`
        self._kept_size = 0
        self._dropped = 0  # position before which messages were dropped
        self._enabled = True

    @property
    def full(self) -> bool:
        """Whether sending must wait for an acknowledgement."""
        return self._size >= self._limit

    @property
    def complete(self) -> bool:
        """Whether another server can have all messages from the safe sample on."""
        return self.keeps and self._dropped <= self.safe * self._sample_bytes

    def add(self, message: Message) -> None:
        """Keep a message; call before sending it."""
        if self._enabled:
            self._end += len(message) if isinstance(message, bytes) else 0
            self._size += len(message)
            self._messages.append((self._end, message))

    def acknowledge(self, samples: int, safe: int | None = None) -> None:
        """The server has received `samples`; a text message at exactly this position may be missing. No server needs
        audio before sample `safe`.
        """
        received = samples * self._sample_bytes
        while self._messages and self._messages[0][0] <= received:
            end, message = self._messages[0]
            if end == received and isinstance(message, str):
                break
            self._messages.popleft()
            self._size -= len(message)
            self._kept.append((end, message))
            self._kept_size += len(message)
        self.safe = max(self.safe, safe or 0)
        self._prune()

    def since(self, samples: int) -> list[Message]:
        """The messages to send again to a server that has received `samples`."""
        self.acknowledge(samples)
        return _after(self._messages, samples * self._sample_bytes)

    def restart(self) -> list[Message]:
        """The messages for another server, from the safe sample on; they count as unacknowledged again."""
        self._messages.extendleft(reversed(self._kept))
        self._size += self._kept_size
        self._kept.clear()
        self._kept_size = 0
        return _after(self._messages, self.safe * self._sample_bytes)

    def refused(self, code: str) -> None:
        """The server warns that a message changed nothing: forget the newest one that this can be about."""
        kinds = (Grammar,) if code == "bad_grammar" else (Grammar, Hotwords, SetLanguage)
        for messages in (self._messages, self._kept):
            for at in reversed(range(len(messages))):
                message = messages[at][1]
                if isinstance(message, str) and isinstance(parse(message), kinds):
                    self._size -= len(message) if messages is self._messages else 0
                    self._kept_size -= len(message) if messages is self._kept else 0
                    del messages[at]
                    return

    def disable(self) -> None:
        """Keep no messages: the session cannot be resumed."""
        self._enabled, self._size, self._kept_size = False, 0, 0
        self._messages.clear()
        self._kept.clear()

    def _prune(self) -> None:
        safe = self.safe * self._sample_bytes if self.keeps else self._end + 1
        while self._kept:
            end, message = self._kept[0]
            passed = end < safe or (end == safe and isinstance(message, bytes))
            if not passed and self._kept_size <= self._kept_limit:
                return
            self._kept.popleft()
            self._kept_size -= len(message)
            if isinstance(message, str):
                if self.keeps:
                    self._apply(message)
            elif not passed:
                self._dropped = end

    def _apply(self, message: str) -> None:
        try:
            match parse(message):
                case Hotwords(phrases=phrases):
                    self.config = replace(self.config, hotwords=phrases)
                case Grammar(text=text):
                    self.config = replace(self.config, grammar=text)
                case SetLanguage(language=language, allowed_languages=allowed):
                    self.config = replace(self.config, language=language, allowed_languages=allowed)
                case _:
                    pass
        except ConfigError:  # the server has refused it too
            pass


def _after(messages: deque[tuple[int, Message]], position: int) -> list[Message]:
    """The messages after a position in bytes; text messages also at it."""
    rest: list[Message] = []
    for end, message in messages:
        overlap = position - (end - len(message)) if isinstance(message, bytes) else 0
        if isinstance(message, str):
            rest.append(message)
        elif overlap < len(message):
            rest.append(message[max(0, overlap) :])
    return rest
