"""Sessions to which a client may come back, by the token that it was told."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from ..access.tokens import Client

if TYPE_CHECKING:
    from ..dialects.native import NativeStream

MOST_FINISHED: Final = 1_000  # ended sessions whose last events may still be fetched


class _One(NamedTuple):
    client: str
    stream: NativeStream


class Kept:
    """A session is kept while it is open, and for `grace_s` after its end."""

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self._streams: dict[bytes, _One] = {}  # by the digest of its token
        self._finished: dict[bytes, asyncio.TimerHandle] = {}

    @property
    def awaited(self) -> bool:
        """Whether a client is away that may come back."""
        return any(one.stream.away for one in self._streams.values())

    def keep(self, client: Client, stream: NativeStream) -> str:
        """Keep an open session; return its token."""
        token = secrets.token_urlsafe(24)
        self._streams[_digest(token)] = _One(client.name, stream)
        return token

    def find(self, token: str, client: Client, *, named: bool) -> NativeStream | None:
        """The session. Who is known by a token must be the same; an address may have changed on the way."""
        one = self._streams.get(_digest(token))
        return one.stream if one is not None and (one.client == client.name or not named) else None

    def end(self, token: str) -> None:
        """The session has ended; its last events may be fetched for a while, unless there was no goodbye."""
        digest = _digest(token)
        if self._streams[digest].stream.finished and len(self._finished) < MOST_FINISHED:
            self._finished[digest] = asyncio.get_running_loop().call_later(self.grace_s, self._forget, digest)
        else:
            del self._streams[digest]

    def _forget(self, digest: bytes) -> None:
        del self._finished[digest], self._streams[digest]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
