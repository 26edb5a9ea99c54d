"""One session on a server, which may reconnect."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Self

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from ...streaming.audio.samples import as_packet, checked, shaped
from ...streaming.config import SAMPLE_BYTES
from ...streaming.errors import EventError
from ...streaming.protocol.events import Ack, Error, Event, SessionEnded, SessionResumed, SessionStarted, from_json
from ...streaming.protocol.messages import ClientMessage, End, Flush, Grammar, Hotwords, SetLanguage, Start, to_json
from ..errors import ConnectionProblem
from .pcm import encode
from .replay import ReplayBuffer

EVENT_QUEUE: Final = 4_096  # unread events
RESUME_TIMEOUT_S: Final = 10.0  # for the server's answer to a resumption
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0  # between attempts to reconnect
FINAL_STATUSES: Final = (401, 403, 404)  # refusals that no further attempt changes
FINAL_CODES: Final = ("resume_lost", "not_our_protocol", "proxy")

Open = Callable[[], Awaitable[ClientConnection]]


class Stream:
    """One session on a server, from `connect`."""

    def __init__(self, open_connection: Open, connection: ClientConnection, start: Start) -> None:
        self.resumed = 0  # reconnections
        self._open = open_connection
        self._connection = connection
        self._audio = start.audio
        self._token: str | None = None  # for resuming the session
        self._resume_s = 0.0  # how long the server keeps the session
        self._received = 0  # number of events
        self._replay = ReplayBuffer(SAMPLE_BYTES[start.encoding] * start.channels)
        self._may_send = asyncio.Event()  # cleared while the replay buffer is full
        self._may_send.set()
        self._send_lock = asyncio.Lock()
        self._error: Error | None = None  # the last error that the server reported
        self._problem: ConnectionProblem | None = None  # the problem that ended the session
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(EVENT_QUEUE)  # None: no more events
        if not start.resumable:
            self._replay.disable()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, open_connection: Open, start: Start) -> Self:
        """Connect and send the first message. Raises `ConnectionProblem`."""
        stream = cls(open_connection, await open_connection(), start)
        try:
            await stream._connection.send(to_json(start))
        except BaseException as error:
            await stream.aclose()
            if isinstance(error, ConnectionClosed):
                raise stream._closed() from None
            raise
        return stream

    async def send(self, audio: bytes | bytearray | memoryview | NDArray[np.floating]) -> None:
        """Send audio: bytes in the format given to `connect`, or float samples (n,) or (n, channels) in [-1, 1].

        Waits while the server is slower than the sender. Raises `AudioError` for other arrays and for samples that are
        not finite, and `ConnectionProblem` after the end of the session; the remaining events then give the reason.
        """
        packet = as_packet(audio)
        if isinstance(packet, np.ndarray):
            packet = encode(checked(shaped(packet, self._audio.channels)), self._audio.encoding)
        await self._send(packet)

    async def flush(self) -> None:
        """End the utterance here; the session continues."""
        await self._send_message(Flush())

    async def set_hotwords(self, hotwords: Sequence[str]) -> None:
        """Replace the hotwords ("PHRASE" or "PHRASE:BOOST") from here on. Errors come as a `warning`."""
        await self._send_message(Hotwords(tuple(hotwords)))

    async def set_language(self, language: str | None, allowed_languages: Sequence[str] = ()) -> None:
        """Choose the language of utterances whose speech begins from here on, as `SessionConfig` does."""
        await self._send_message(SetLanguage(language, tuple(allowed_languages)))

    async def set_grammar(self, grammar: str) -> None:
        """Replace the command grammar from here on; an empty text removes it. Errors come as a `warning`."""
        await self._send_message(Grammar(grammar))

    async def end(self) -> None:
        """No more audio: the server finishes the open utterance and ends the session."""
        await self._send_message(End())

    async def aclose(self) -> None:
        """Close the connection at once and drop the remaining events."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._connection.close()
        self._finish()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """The session's events until `session_ended`. Raises `ConnectionProblem` if the session breaks before that."""
        while not (self._events.empty() and self._reader.done()):
            if (event := await self._events.get()) is not None:
                yield event
            if isinstance(event, SessionEnded):
                return
        raise self._problem or self._closed()

    # ── sending ──

    async def _send_message(self, message: ClientMessage) -> None:
        await self._send(to_json(message))

    async def _send(self, message: str | bytes) -> None:
        while True:
            await self._may_send.wait()
            async with self._send_lock:
                if self._replay.full and not self._reader.done():
                    self._may_send.clear()
                    continue
                self._replay.add(message)
                connection = self._connection
                try:
                    await connection.send(message)
                except ConnectionClosed:
                    if self._reader.done() or not self._resumable(connection):
                        raise self._problem or self._closed() from None
                return  # an unsent message is in the replay buffer, and `_resume` sends it

    # ── receiving ──

    async def _read(self) -> None:
        """Read events until the session ends; reconnect if the connection breaks."""
        try:
            while True:
                with suppress(ConnectionClosed):
                    async for message in self._connection:
                        if await self._receive(_parse(message)):
                            return
                if not self._resumable(self._connection):
                    return
                await self._reconnect()
        except ConnectionProblem as problem:
            self._problem = problem
        finally:
            self._finish()

    def _finish(self) -> None:
        self._replay.disable()
        self._may_send.set()
        with suppress(asyncio.QueueFull):  # then the iteration ends without it
            self._events.put_nowait(None)

    async def _receive(self, event: Event) -> bool:
        """Handle an event; return whether it is the last one."""
        match event:
            case Ack(received=received):
                self._replay.acknowledge(received)
                self._may_send.set()
                return False
            case SessionStarted(resume=token, resume_s=seconds):
                self._token, self._resume_s = token or None, seconds or 0.0
                if not token:
                    self._replay.disable()
                    self._may_send.set()
                event = replace(event, resume=msgspec.UNSET, resume_s=msgspec.UNSET)
            case Error():
                self._error = event
            case _:
                pass
        self._received += 1
        await self._events.put(event)
        return isinstance(event, SessionEnded)

    # ── reconnecting ──

    def _resumable(self, connection: ClientConnection) -> bool:
        """Whether the connection broke without a close frame and the server keeps the session."""
        return self._token is not None and connection.protocol.close_rcvd is None

    async def _reconnect(self) -> None:
        """Connect again and resume the session. Raises `ConnectionProblem` if the server's time limit passes."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self._resume_s, FIRST_PAUSE_S
        while True:
            try:
                return await self._resume(await self._open())
            except ConnectionProblem as problem:
                final = problem.status in FINAL_STATUSES or problem.code in FINAL_CODES
                if final or loop.time() + pause > deadline:
                    raise
            except ConnectionClosed:  # the new connection broke too
                if loop.time() + pause > deadline:
                    raise self._closed() from None
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # random, so clients do not return all at once
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _resume(self, connection: ClientConnection) -> None:
        try:
            await connection.send(to_json(Start(resume=self._token, events=self._received)))
            try:
                async with asyncio.timeout(RESUME_TIMEOUT_S):
                    event = _parse(await connection.recv())
            except TimeoutError:
                connection.transport.abort()  # a closing handshake would wait for another answer
                raise ConnectionProblem("the server does not answer the resumption", code="timeout") from None
            if not isinstance(event, SessionResumed):
                code, why = (
                    (event.code, event.message) if isinstance(event, Error) else ("not_our_protocol", str(event))
                )
                raise ConnectionProblem(f"the session cannot continue after the connection broke: {why}", code=code)
            async with self._send_lock:
                for message in self._replay.since(event.received):
                    await connection.send(message)
                self._connection = connection
        except BaseException:
            await connection.close()
            raise
        self.resumed += 1
        self._may_send.set()

    def _closed(self) -> ConnectionProblem:
        if self._error:
            return ConnectionProblem(f"the server ended the session: {self._error.message}", code=self._error.code)
        code, reason = self._connection.close_code, self._connection.close_reason
        why = f"{code} {reason}".strip() if code else "no reason given"
        return ConnectionProblem(f"the server closed the connection before the end ({why})", code="closed_early")


def _parse(message: str | bytes) -> Event:
    try:
        return from_json(message)
    except EventError:
        raise ConnectionProblem(
            "the server does not use this protocol: is it an xlsr-live server, and the path /v1/stream?",
            code="not_our_protocol",
        ) from None
