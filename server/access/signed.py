"""Tickets for replicas, which share a key and nothing else: a ticket says whom it admits, and is signed."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from .tickets import MAX_PER_CLIENT
from .tokens import Client, digest

_SIGNATURE: Final = hashlib.sha256().digest_size


class _Claims(msgspec.Struct, array_like=True):
    client: Client
    expires: float
    nonce: bytes


class SignedTickets:
    """`Tickets` that every holder of `key` accepts, each once. `clock` must be that of all machines."""

    def __init__(self, key: bytes, lifetime_s: float, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._issued: dict[bytes, tuple[str, float]] = {}  # client's name and expiry by digest, oldest first
        self._spent: dict[bytes, float] = {}  # expiry by digest

    def issue(self, client: Client) -> str | None:
        """A new ticket; None while the client has too many unused ones of this replica."""
        now = self._clock()
        self._forget(now)
        if Counter(name for name, _ in self._issued.values())[client.name] >= MAX_PER_CLIENT:
            return None
        claims = msgspec.msgpack.encode(_Claims(client, now + self._lifetime_s, secrets.token_bytes(16)))
        ticket = urlsafe_b64encode(claims + self._signature(claims)).rstrip(b"=").decode()
        self._issued[digest(ticket)] = client.name, now + self._lifetime_s
        return ticket

    def holder(self, ticket: str) -> Client | None:
        """The client that a valid ticket admits."""
        claims = self._claims(ticket)
        return claims.client if claims and digest(ticket) not in self._spent else None

    def spend(self, ticket: str) -> bool:
        """Make the ticket invalid here; False if it was already."""
        claims, name = self._claims(ticket), digest(ticket)
        if claims is None or name in self._spent:
            return False
        self._forget(self._clock())
        self._spent[name] = claims.expires
        self._issued.pop(name, None)
        return True

    def _claims(self, ticket: str) -> _Claims | None:
        try:
            data = urlsafe_b64decode(ticket.encode("ascii") + b"=" * (-len(ticket) % 4))
        except ValueError:
            return None
        if urlsafe_b64encode(data).rstrip(b"=") != ticket.encode("ascii"):
            return None  # another spelling of a ticket would be good once more
        claims, signature = data[:-_SIGNATURE], data[-_SIGNATURE:]
        if not hmac.compare_digest(signature, self._signature(claims)):
            return None
        found = msgspec.msgpack.decode(claims, type=_Claims)
        return found if found.expires > self._clock() else None

    def _signature(self, claims: bytes) -> bytes:
        return hmac.digest(self._key, claims, "sha256")

    def _forget(self, now: float) -> None:
        self._issued = {name: (client, expires) for name, (client, expires) in self._issued.items() if expires > now}
        self._spent = {name: expires for name, expires in self._spent.items() if expires > now}
