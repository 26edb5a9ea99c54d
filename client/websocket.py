"""A client of the server's native protocol (docs/protocol.md).

    async with connect("ws://127.0.0.1:8765/v1/stream") as stream:
        await stream.send(pcm)                      # as often as there is audio
        await stream.end()
        async for event in stream:                  # to session_ended
            ...

Sending and receiving are independent: run them as two tasks for live audio. Events are read in the background and
held until they are iterated, so a sender that is not listening yet loses nothing.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from ..streaming.config import AudioFormat, SessionConfig
from ..streaming.errors import XlsrLiveError
from ..streaming.events import Error, Event, SessionEnded, from_json

VERSION: Final = 1  # of the protocol
EVENTS_HELD: Final = 4_096  # unread events; beyond them the server has to wait
OPEN_TIMEOUT: Final = 10.0  # seconds for the connection and the handshake


class ConnectionProblem(XlsrLiveError):
    """The server cannot be reached, refuses the session or went away; the sentence says what to do."""

    code = "connection"


class Stream:
    """One session on a server. Made by `connect`."""

    def __init__(self, connection: ClientConnection, audio: AudioFormat) -> None:
        self._connection = connection
        self._audio = audio
        self._told: Error | None = None  # the last error that the server reported

    async def send(self, audio: bytes | NDArray[np.float32]) -> None:
        """Send audio in the format given to `connect`; an array (interleaved, -1..1) is coded first.

        Waits while the server is slower than the sender. Raises `ConnectionProblem` once the connection is closed:
        the events still to be read say why.
        """
        await self._send(audio if isinstance(audio, bytes) else encode(audio, self._audio.encoding))

    async def flush(self) -> None:
        """End the utterance here; the session goes on."""
        await self._send('{"type":"flush"}')

    async def set_hotwords(self, hotwords: Sequence[str]) -> None:
        """Listen for these ("PHRASE" or "PHRASE:BOOST") from here on; what cannot be done comes as a `warning`."""
        await self._send(msgspec.json.encode({"type": "hotwords", "phrases": tuple(hotwords)}).decode())

    async def set_grammar(self, grammar: str) -> None:
        """Listen for the commands of this grammar from here on, for none if it is empty; a mistake in it comes as a
        `warning` with its line and column.
        """
        await self._send(msgspec.json.encode({"type": "grammar", "text": grammar}).decode())

    async def end(self) -> None:
        """No more audio: the server finishes what is open and ends the session."""
        await self._send('{"type":"end"}')

    async def aclose(self) -> None:
        """Leave at once, without the rest of the events."""
        await self._connection.close()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """The session's events, to `session_ended`. Raises `ConnectionProblem` if the connection ends before it."""
        try:
            async for message in self._connection:
                event = _event(message)
                if isinstance(event, Error):
                    self._told = event
                yield event
                if isinstance(event, SessionEnded):
                    return
        except ConnectionClosed:
            pass
        raise self._closed()

    async def _send(self, message: str | bytes) -> None:
        try:
            await self._connection.send(message)
        except ConnectionClosed:
            raise self._closed() from None

    def _closed(self) -> ConnectionProblem:
        if self._told:
            return ConnectionProblem(f"the server ended the session: {self._told.message}", code=self._told.code)
        code, reason = self._connection.close_code, self._connection.close_reason
        why = f"{code} {reason}".strip() if code else "no reason given"
        return ConnectionProblem(f"the server closed the connection before the end ({why})", code="closed_early")


@asynccontextmanager
async def connect(
    url: str,
    *,
    config: SessionConfig | None = None,
    audio: AudioFormat | None = None,
    token: str | None = None,
) -> AsyncGenerator[Stream]:
    """Open a session at `url` (`ws://host:port/v1/stream`, or `wss://`) and start it.

    `token` goes into the `Authorization` header. Raises `ConnectionProblem`.
    """
    audio = audio or AudioFormat()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection = await open_websocket(
            url,
            additional_headers=headers,
            open_timeout=OPEN_TIMEOUT,
            max_queue=EVENTS_HELD,
            compression=None,  # audio does not deflate
            # No deadline for the answer to a ping: it queues behind audio that the server has not taken yet, and a
            # file sent faster than it can be recognised must not break its own connection.
            ping_timeout=None,
        )
    except (OSError, InvalidHandshake, InvalidURI, ConnectionClosed) as error:
        raise _problem(url, error) from error
    try:
        stream = Stream(connection, audio)
        try:
            await connection.send(start_message(config or SessionConfig(), audio))
        except ConnectionClosed:
            raise stream._closed() from None  # pyright: ignore[reportPrivateUsage]
        yield stream
    finally:
        await connection.close()


def start_message(config: SessionConfig, audio: AudioFormat) -> str:
    """The first message of a session. Settings at their defaults are left out: there the server's own apply."""
    defaults = msgspec.to_builtins(SessionConfig())
    settings: dict[str, Any] = {
        name: value for name, value in msgspec.to_builtins(config).items() if value != defaults[name]
    }
    message = {"type": "start", "version": VERSION, **msgspec.to_builtins(audio), "config": settings}
    return msgspec.json.encode(message).decode()


def encode(audio: NDArray[np.float32], encoding: str) -> bytes:
    """Floats in -1..1 as `pcm_s16le` or `pcm_f32le`. 16-bit audio that was read as floats comes out unchanged."""
    if encoding == "pcm_f32le":
        return audio.astype("<f4").tobytes()
    if encoding == "pcm_s16le":
        return np.clip(np.rint(audio * 32_768.0), -32_768, 32_767).astype("<i2").tobytes()
    raise ValueError(f"arrays are sent as pcm_s16le or pcm_f32le, not as {encoding}")


def _event(message: str | bytes) -> Event:
    try:
        return from_json(message)
    except msgspec.DecodeError:
        raise ConnectionProblem(
            "the server answered in another language: is it an xlsr-live server, and the path /v1/stream?",
            code="not_our_protocol",
        ) from None


def _problem(url: str, error: Exception) -> ConnectionProblem:
    match error:
        case InvalidStatus(response=response):
            return _refusal(url, response.status_code, response.headers.get("Retry-After"))
        case InvalidURI():
            return ConnectionProblem(f"{url} is not a websocket address such as ws://127.0.0.1:8765/v1/stream")
        case TimeoutError():
            return ConnectionProblem(f"no answer from {url} within {OPEN_TIMEOUT:.0f} s", code="timeout")
        case ssl.SSLError():
            return ConnectionProblem(f"no secure connection to {url}: {error.reason}", code="tls")
        case OSError():
            return ConnectionProblem(
                f"nothing answers at {url} ({_reason(error)}); start a server with: xlsr-live serve", code="refused"
            )
        case _:
            return ConnectionProblem(f"what answers at {url} is not a websocket server", code="not_a_websocket")


def _refusal(url: str, status: int, retry_after: str | None) -> ConnectionProblem:
    match status:
        case 401:
            hint = "it wants a token, or another one (XLSR_LIVE_TOKEN or --token-file)"
        case 403 | 404:  # an ASGI server says 403 where it has no websocket at all
            hint = "it does not allow this client, or has nothing at this path (the native protocol: /v1/stream)"
        case 429 | 503:
            hint = f"it is full or not ready; try again in {retry_after or 'a few'} seconds"
        case _:
            hint = "see the server's log"
    return ConnectionProblem(f"{url} refuses the connection with HTTP {status}: {hint}", code=f"http_{status}")


def _reason(error: OSError) -> str:
    # asyncio joins the failures of several addresses (IPv6, IPv4) in one message; the kind is what helps.
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "connection refused"
    return (error.strerror or str(error)).lower()
