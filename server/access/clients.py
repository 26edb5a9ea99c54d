"""Accounts of clients: their open sessions, and their audio in the last minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from .ledger import Ledger
from .tokens import Client

MINUTE: Final = 60.0
CHARGE_S: Final = 0.5
PRUNE_ABOVE: Final = 1_000  # accounts; with fewer, idle ones stay


@dataclass(slots=True)
class Account:
    """One client's open sessions and its allowance of audio, a token bucket that may be overdrawn.

    A client above its allowance waits before the server accepts more audio, on whichever connection, and no audio is
    lost.
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

    def refresh(self, now: float) -> None:
        """Learn what the client has spent at other fronts."""


@dataclass(slots=True)
class SharedAccount(Account):
    """The account at one of several fronts; the ledger knows all of the client's audio. This front tells it after
    every `CHARGE_S` seconds of audio."""

    ledger: Ledger = field(kw_only=True)
    uncharged: float = 0.0  # seconds

    def charge(self, seconds: float, now: float) -> float:
        allowed = self.client.audio_s_per_minute
        if not allowed:
            return 0.0
        rate = allowed / MINUTE
        self.uncharged += seconds
        if self.uncharged >= CHARGE_S:
            self.refresh(now)
        return max(0.0, (self.spent - (now - self.now) * rate + self.uncharged - allowed) / rate)

    def refresh(self, now: float) -> None:
        if rate := self.client.audio_s_per_minute / MINUTE:
            self.spent = self.ledger.charge(self.client, self.uncharged, now, rate)
            self.uncharged, self.now = 0.0, now


class Clients:
    """The accounts of all clients; idle ones are dropped. `ledger`: that of a server with several fronts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, ledger: Ledger | None = None) -> None:
        self._clock = clock
        self._ledger = ledger
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
        account = self._accounts.get(client.name) or self._open(client)
        account.client = client  # a reload may have changed its limits
        account.sessions += sessions
        account.refresh(self._clock())
        try:
            yield account
        finally:
            account.sessions -= sessions

    def _open(self, client: Client) -> Account:
        now = self._clock()
        account = Account(client, now) if self._ledger is None else SharedAccount(client, now, ledger=self._ledger)
        self._accounts[client.name] = account
        return account

    def _prune(self) -> None:
        if len(self._accounts) >= PRUNE_ABOVE:
            now = self._clock()
            idle = [name for name, one in self._accounts.items() if not one.sessions and now - one.now > MINUTE]
            for name in idle:
                del self._accounts[name]
