"""A client of the server's native protocol (docs/protocol.md).

    async with connect("ws://127.0.0.1:8765/v1/stream") as stream:
        await stream.send(pcm)                      # as often as there is audio
        await stream.end()
        async for event in stream:                  # to session_ended
            ...

Sending and receiving are independent: run them as two tasks for live audio. Events are read in the background and
held until they are iterated, so a sender that is not listening yet loses nothing.

A connection that breaks is made again, if the server keeps the session: audio that it has not heard is sent again, and
the events go on where they stopped.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.http11 import Response

from ...streaming.audio.samples import as_packet, checked, shaped
from ...streaming.config import SAMPLE_BYTES, AudioFormat, SessionConfig
from ...streaming.errors import AudioError, EventError
from ...streaming.protocol.events import Ack, Error, Event, SessionEnded, SessionResumed, SessionStarted, from_json
from ...streaming.protocol.messages import End, Flush, Grammar, Hotwords, Start, to_json
from ..errors import ConnectionProblem
from .liveness import AttentiveConnection
from .replay import Replay

EVENTS_HELD: Final = 4_096  # unread events; beyond them the server has to wait
OPEN_TIMEOUT: Final = 10.0  # seconds for the connection and the handshake
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0  # between attempts

Dial = Callable[[], Awaitable[ClientConnection]]


class Stream:
    """One session on a server. Made by `connect`."""

    def __init__(self, connection: ClientConnection, audio: AudioFormat, dial: Dial, *, resume: bool) -> None:
        self.resumed = 0  # times that the connection was made again
        self._connection = connection
        self._audio = audio
        self._dial = dial
        self._token: str | None = None  # for coming back
        self._come_back_s = 0.0  # as long as the server waits
        self._seen = 0  # events
        self._replay = Replay(SAMPLE_BYTES[audio.encoding] * audio.channels)
        self._room = asyncio.Event()  # in the replay
        self._room.set()
        self._order = asyncio.Lock()  # of what is sent
        self._told: Error | None = None  # the last error that the server reported
        self._problem: ConnectionProblem | None = None  # that ended it
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(EVENTS_HELD)  # None: there are no more
        if not resume:
            self._replay.stop()
        self._listener = asyncio.create_task(self._listen())

    async def send(self, audio: bytes | bytearray | memoryview | NDArray[np.floating]) -> None:
        """Send audio: bytes in the format given to `connect`, or float samples (n,) or (n, channels) in [-1, 1].

        Waits while the server is slower than the sender. Raises `AudioError` for other arrays and for samples that are
        not finite, and `ConnectionProblem` once the connection is closed for good: the events still to be read say why.
        """
        packet = as_packet(audio)
        if isinstance(packet, np.ndarray):
            packet = encode(checked(shaped(packet, self._audio.channels)), self._audio.encoding)
        await self._send(packet)

    async def flush(self) -> None:
        """End the utterance here; the session goes on."""
        await self._send(to_json(Flush()))

    async def set_hotwords(self, hotwords: Sequence[str]) -> None:
        """Listen for these ("PHRASE" or "PHRASE:BOOST") from here on; what cannot be done comes as a `warning`."""
        await self._send(to_json(Hotwords(tuple(hotwords))))

    async def set_grammar(self, grammar: str) -> None:
        """Listen for the commands of this grammar from here on, for none if it is empty; a mistake in it comes as a
        `warning` with its line and column.
        """
        await self._send(to_json(Grammar(grammar)))

    async def end(self) -> None:
        """No more audio: the server finishes what is open and ends the session."""
        await self._send(to_json(End()))

    async def aclose(self) -> None:
        """Leave at once, without the rest of the events."""
        self._listener.cancel()
        await asyncio.gather(self._listener, return_exceptions=True)
        await self._connection.close()
        self._over()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """The session's events, to `session_ended`. Raises `ConnectionProblem` if the connection ends before it."""
        while not (self._events.empty() and self._listener.done()):
            if (event := await self._events.get()) is not None:
                yield event
            if isinstance(event, SessionEnded):
                return
        raise self._problem or self._closed()

    # ── how it works ──

    async def _send(self, message: str | bytes) -> None:
        while True:
            await self._room.wait()
            async with self._order:
                if self._replay.full and not self._listener.done():
                    self._room.clear()
                    continue
                self._replay.add(message)
                connection = self._connection
                try:
                    await connection.send(message)
                except ConnectionClosed:
                    if self._listener.done() or not self._broken(connection):
                        raise self._problem or self._closed() from None
                return  # what could not be sent is sent by whoever makes the connection again

    async def _start(self, message: str) -> None:
        try:
            await self._connection.send(message)
        except ConnectionClosed:
            raise self._closed() from None

    async def _listen(self) -> None:
        """Read events for as long as there are any, over one connection after the other."""
        try:
            while True:
                try:
                    async for message in self._connection:
                        if await self._hear(_event(message)):
                            return
                except ConnectionClosed:
                    pass
                if not self._broken(self._connection):
                    return
                await self._come_back()
        except ConnectionProblem as problem:
            self._problem = problem
        finally:
            self._over()

    def _over(self) -> None:
        self._replay.stop()
        self._room.set()
        with suppress(asyncio.QueueFull):  # then nobody waits for it
            self._events.put_nowait(None)

    async def _hear(self, event: Event) -> bool:
        """Whether that was the last one."""
        match event:
            case Ack(received=received):
                self._replay.acknowledge(received)
                self._room.set()
                return False
            case SessionStarted(resume=token, resume_s=seconds):
                self._token, self._come_back_s = token or None, seconds or 0.0
                if not token:
                    self._replay.stop()
                    self._room.set()
                event = replace(event, resume=msgspec.UNSET, resume_s=msgspec.UNSET)
            case Error():
                self._told = event
            case _:
                pass
        self._seen += 1
        await self._events.put(event)
        return isinstance(event, SessionEnded)

    def _broken(self, connection: ClientConnection) -> bool:
        """Whether the connection went away without a word, from a session that is kept."""
        return self._token is not None and connection.protocol.close_rcvd is None

    async def _come_back(self) -> None:
        """Connect again and go on. Raises `ConnectionProblem` if that cannot be done in time."""
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + self._come_back_s, FIRST_PAUSE_S
        while True:
            try:
                return await self._resume(await self._dial())
            except ConnectionProblem as problem:
                final = problem.status in (401, 403, 404) or problem.code in ("resume_lost", "not_our_protocol")
                if final or loop.time() + pause > until:
                    raise
            except ConnectionClosed:  # again
                if loop.time() + pause > until:
                    raise self._closed() from None
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # not all clients of a server at once
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _resume(self, connection: ClientConnection) -> None:
        try:
            await connection.send(to_json(Start(resume=self._token, events=self._seen)))
            try:
                async with asyncio.timeout(OPEN_TIMEOUT):
                    event = _event(await connection.recv())
            except TimeoutError:
                connection.transport.abort()  # there is nobody to say goodbye to
                raise ConnectionProblem("the server does not answer one who comes back", code="timeout") from None
            if not isinstance(event, SessionResumed):
                code, why = (
                    (event.code, event.message) if isinstance(event, Error) else ("not_our_protocol", str(event))
                )
                raise ConnectionProblem(f"the session cannot go on after the connection broke: {why}", code=code)
            async with self._order:
                for message in self._replay.since(event.received):
                    await connection.send(message)
                self._connection = connection
        except BaseException:
            await connection.close()
            raise
        self.resumed += 1
        self._room.set()

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
    resume: bool = True,
    share: bool = False,
) -> AsyncGenerator[Stream]:
    """Open a session at `url` (`ws://host:port/v1/stream`, or `wss://`) and start it.

    `token` goes into the `Authorization` header. Without `resume` a connection that breaks is the end, for the server
    too. With `share` the `session_started` event tells a key with which others can watch. Raises `ConnectionProblem`.
    """
    audio = audio or AudioFormat()
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def dial() -> ClientConnection:
        try:
            return await open_websocket(
                url,
                additional_headers=headers,
                open_timeout=OPEN_TIMEOUT,
                max_queue=EVENTS_HELD,
                compression=None,  # audio does not deflate
                create_connection=AttentiveConnection,
                ping_timeout=None,  # see there
            )
        except (OSError, InvalidHandshake, InvalidURI, ConnectionClosed) as error:
            raise _problem(url, error) from error

    start = Start(
        encoding=audio.encoding,
        sample_rate=audio.sample_rate,
        channels=audio.channels,
        config=config or SessionConfig(),
        resumable=resume,
        share=share,
    )
    stream = Stream(await dial(), audio, dial, resume=resume)
    try:
        await stream._start(to_json(start))  # pyright: ignore[reportPrivateUsage]
        yield stream
    finally:
        await stream.aclose()


def encode(audio: NDArray[np.floating], encoding: str) -> bytes:
    """Floats in -1..1 as `pcm_s16le` or `pcm_f32le`. 16-bit audio that was read as floats comes out unchanged.

    Raises `AudioError` for other encodings.
    """
    if encoding == "pcm_f32le":
        return audio.astype("<f4").tobytes()
    if encoding == "pcm_s16le":
        return np.clip(np.rint(audio * 32_768.0), -32_768, 32_767).astype("<i2").tobytes()
    raise AudioError(f"arrays are sent as pcm_s16le or pcm_f32le, not as {encoding}; send bytes")


def _event(message: str | bytes) -> Event:
    try:
        return from_json(message)
    except EventError:
        raise ConnectionProblem(
            "the server answered in another language: is it an xlsr-live server, and the path /v1/stream?",
            code="not_our_protocol",
        ) from None


def _problem(url: str, error: Exception) -> ConnectionProblem:
    match error:
        case InvalidStatus(response=response):
            return _refusal(url, response)
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


def _refusal(url: str, response: Response) -> ConnectionProblem:
    status, after = response.status_code, response.headers.get("Retry-After", "")
    retry_after = int(after) if after.isdecimal() else None
    try:
        said = from_json(bytes(response.body or b""))
    except EventError:  # a proxy's, or that of another server
        said = None
    code = said.code if isinstance(said, Error) else f"http_{status}"
    match status:
        case 401:
            hint = "it wants a token, or another one (XLSR_LIVE_TOKEN or --token-file)"
        case _ if isinstance(said, Error):
            hint = said.message + (f" (in {retry_after} seconds)" if retry_after else "")
        case 403 | 404:  # an ASGI server says 403 where it has no websocket at all
            hint = "it does not allow this client, or has nothing at this path (the native protocol: /v1/stream)"
        case 429 | 503:
            hint = f"it is full or not ready; try again in {retry_after or 'a few'} seconds"
        case _:
            hint = "see the server's log"
    message = f"{url} refuses the connection with HTTP {status}: {hint}"
    return ConnectionProblem(message, code=code, status=status, retry_after=retry_after)


def _reason(error: OSError) -> str:
    # asyncio joins the failures of several addresses (IPv6, IPv4) in one message; the kind is what helps.
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "connection refused"
    return (error.strerror or str(error)).lower()
