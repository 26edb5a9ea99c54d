"""Accounts of clients: their open sessions, and their audio in the last minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from .tokens import Client

MINUTE: Final = 60.0
PRUNE_ABOVE: Final = 1_000  # accounts; with fewer, idle ones stay


@dataclass(slots=True)
class Account:
    """One client's open sessions and its allowance of audio, a token bucket that may be overdrawn.

    The server charges audio after accepting it: a client above its allowance waits before it may send
    more, and no audio is lost.
    """

    client: Client
    now: float  # time of the last charge
    sessions: int = 0
    spent: float = 0.0  # seconds of audio minus the allowance since

    def charge(self, seconds: float, now: float) -> float:
        """Charge the client for audio; returns the seconds to wait before it may send more."""
        allowed = self.client.audio_s_per_minute
        if not allowed:
            return 0.0
        rate = allowed / MINUTE
        self.spent = max(0.0, self.spent - (now - self.now) * rate) + seconds
        self.now = now
        return max(0.0, (self.spent - allowed) / rate)


class Clients:
    """The accounts of all clients; idle ones are dropped."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: dict[str, Account] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def full(self, client: Client, more: int = 1) -> bool:
        """Whether `more` sessions would exceed the client's limit."""
        account = self._accounts.get(client.name)
        return account is not None and 0 < client.max_sessions < account.sessions + more

    @contextmanager
    def entered(self, client: Client, sessions: int = 1) -> Generator[Account]:
        """Count sessions of the client for the length of the block."""
        self._prune()
        account = self._accounts.setdefault(client.name, Account(client, self._clock()))
        account.client = client  # a reload may have changed its limits
        account.sessions += sessions
        try:
            yield account
        finally:
            account.sessions -= sessions

    def _prune(self) -> None:
        if len(self._accounts) >= PRUNE_ABOVE:
            now = self._clock()
            idle = [name for name, one in self._accounts.items() if not one.sessions and now - one.now > MINUTE]
            for name in idle:
                del self._accounts[name]
