"""How messages of one client come and go: the part of a dialect that knows sockets."""

from __future__ import annotations

from typing import Protocol, TypeVar

Received = TypeVar("Received", covariant=True)
Data = str | bytes


class ClientLeft(Exception):
    """The connection is gone, with or without goodbye."""


class Transport(Protocol[Received]):
    """One connection. All raise `ClientLeft` when it is gone."""

    async def open(self) -> None:
        """Do what comes before the first message."""
        ...

    async def receive(self) -> Received:
        """Wait for one message. Raises `ProtocolError` for one that is too large or makes no sense."""
        ...

    async def send(self, data: Data) -> None:
        """Send one message; waits while the client does not read."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """End the connection."""
        ...
