"""What the fronts of one server must agree on: who has how many sessions, whose audio counts, and which tickets are
unused. It lies in an SQLite file of the server's private folder: a transaction is whole although a front may be killed
in it, and a front that waits for another waits microseconds.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec

from ...streaming.protocol.codes import Code
from .tickets import MAX_PER_CLIENT
from .tokens import Client, digest

Kind = Literal["session", "upload"]

_WAIT_S: Final = 5.0  # for another front's transaction
_SCHEMA: Final = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS claims (id INTEGER PRIMARY KEY, front INTEGER, kind TEXT, client TEXT);
CREATE TABLE IF NOT EXISTS allowances (client TEXT PRIMARY KEY, spent REAL, at REAL);
CREATE TABLE IF NOT EXISTS tickets (digest BLOB PRIMARY KEY, name TEXT, client BLOB, expires REAL);
"""


class Ledger:
    """Belongs to one thread of one process. Times are of the monotonic clock, which all processes share."""

    def __init__(self, file: Path, front: int) -> None:
        self._front = front
        self._database = sqlite3.connect(file, timeout=_WAIT_S, isolation_level=None)
        self._database.executescript(_SCHEMA)
        self._database.execute("PRAGMA synchronous = OFF")  # it ends with the server

    def close(self) -> None:
        self._database.close()

    def forget(self, front: int) -> None:
        """A front has ended: free what it had claimed."""
        self._database.execute("DELETE FROM claims WHERE front = ?", (front,))

    # ── sessions ──

    def count(self, kind: Kind) -> int:
        """Sessions, or uploads, of all clients."""
        return self._one("SELECT count(*) FROM claims WHERE kind = ?", kind)

    def count_of(self, client: Client) -> int:
        """Sessions and uploads of the client."""
        return self._one("SELECT count(*) FROM claims WHERE client = ?", client.name)

    @contextmanager
    def claimed(self, kind: Kind, client: Client, limit: int) -> Generator[Code | None]:
        """Claim a place among at most `limit` for the length of the block; else yields why there is none."""
        claim: int | None = None
        with self._transaction():
            full = self.count(kind) >= limit
            own_full = 0 < client.max_sessions <= self.count_of(client)
            code = Code.CLIENT_FULL if own_full else Code.SERVER_FULL if full else None
            if code is None:
                values = self._front, kind, client.name
                entry = "INSERT INTO claims (front, kind, client) VALUES (?, ?, ?)"
                claim = self._database.execute(entry, values).lastrowid
        try:
            yield code
        finally:
            if claim is not None:
                self._database.execute("DELETE FROM claims WHERE id = ?", (claim,))

    # ── audio ──

    def charge(self, client: Client, seconds: float, now: float, rate: float) -> float:
        """Charge the client for audio, of which it may have `rate` seconds a second. Returns what it has spent."""
        with self._transaction():
            row = self._database.execute("SELECT spent, at FROM allowances WHERE client = ?", (client.name,)).fetchone()
            spent = 0.0 if row is None else max(0.0, row[0] - (now - row[1]) * rate)
            values = client.name, spent + seconds, now
            self._database.execute("INSERT OR REPLACE INTO allowances VALUES (?, ?, ?)", values)
        return spent + seconds

    # ── tickets ──

    def issue_ticket(self, client: Client, now: float, expires: float) -> str | None:
        """A new ticket; None while the client has too many unused ones."""
        with self._transaction():
            self._database.execute("DELETE FROM tickets WHERE expires <= ?", (now,))
            if self._one("SELECT count(*) FROM tickets WHERE name = ?", client.name) >= MAX_PER_CLIENT:
                return None
            ticket = secrets.token_urlsafe(32)
            values = digest(ticket), client.name, msgspec.msgpack.encode(client), expires
            self._database.execute("INSERT INTO tickets VALUES (?, ?, ?, ?)", values)
        return ticket

    def ticket_holder(self, ticket: str, now: float) -> Client | None:
        """The client that a valid ticket admits."""
        values = digest(ticket), now
        row = self._database.execute("SELECT client FROM tickets WHERE digest = ? AND expires > ?", values).fetchone()
        return None if row is None else msgspec.msgpack.decode(row[0], type=Client)

    def spend_ticket(self, ticket: str) -> bool:
        """Make the ticket invalid; False if it was already."""
        return self._database.execute("DELETE FROM tickets WHERE digest = ?", (digest(ticket),)).rowcount > 0

    def _one(self, query: str, value: str) -> int:
        return int(self._database.execute(query, (value,)).fetchone()[0])

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            self._database.execute("COMMIT")


class SharedTickets:
    """`Tickets` that every front knows."""

    def __init__(self, ledger: Ledger, lifetime_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._lifetime_s = lifetime_s
        self._clock = clock

    def issue(self, client: Client) -> str | None:
        now = self._clock()
        return self._ledger.issue_ticket(client, now, now + self._lifetime_s)

    def holder(self, ticket: str) -> Client | None:
        return self._ledger.ticket_holder(ticket, self._clock())

    def spend(self, ticket: str) -> bool:
        return self._ledger.spend_ticket(ticket)
