"""The connection of one client, as the dialects see it."""

from __future__ import annotations

from typing import Protocol, TypeVar

Received = TypeVar("Received", covariant=True)
Data = str | bytes


class ClientLeft(Exception):
    """The connection is closed, with or without a closing handshake."""


class Transport(Protocol[Received]):
    """One connection. Every method raises `ClientLeft` when it is closed."""

    async def open(self) -> None:
        """Complete the handshake."""
        ...

    async def receive(self) -> Received:
        """Wait for one message. Raises `ProtocolError` for a message that is too large or malformed."""
        ...

    async def send(self, data: Data) -> None:
        """Send one message; waits while the client does not read."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Close the connection."""
        ...
