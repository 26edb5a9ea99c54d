"""What each client takes of the server: sessions open now, and audio in the last minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from .tokens import Client

MINUTE: Final = 60.0
MANY: Final = 1_000  # accounts, before those at rest are looked for


@dataclass(slots=True)
class Account:
    """Audio is paid for when it has been taken: who owes has to wait until the minute's allowance has made up for it,
    so that nothing that was accepted is ever dropped."""

    client: Client
    now: float
    sessions: int = 0
    spent: float = 0.0  # seconds of audio, less what has been allowed since

    def pay(self, seconds: float, now: float) -> float:
        """Take so much audio; return for how long no more may be taken, in seconds."""
        allowed = self.client.audio_s_per_minute
        if not allowed:
            return 0.0
        rate = allowed / MINUTE
        self.spent = max(0.0, self.spent - (now - self.now) * rate) + seconds
        self.now = now
        return max(0.0, (self.spent - allowed) / rate)


class Clients:
    """All accounts; one that is at rest is forgotten."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: dict[str, Account] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def full(self, client: Client, more: int = 1) -> bool:
        """Whether so many more sessions would be more than the client may have."""
        account = self._accounts.get(client.name)
        return account is not None and 0 < client.max_sessions < account.sessions + more

    @contextmanager
    def entered(self, client: Client, sessions: int = 1) -> Generator[Account]:
        """Count so many sessions of the client for the length of the block."""
        self._forget()
        account = self._accounts.setdefault(client.name, Account(client, self._clock()))
        account.client = client  # its limits may have changed
        account.sessions += sessions
        try:
            yield account
        finally:
            account.sessions -= sessions

    def _forget(self) -> None:
        if len(self._accounts) >= MANY:
            now = self._clock()
            resting = [name for name, one in self._accounts.items() if not one.sessions and now - one.now > MINUTE]
            for name in resting:
                del self._accounts[name]
