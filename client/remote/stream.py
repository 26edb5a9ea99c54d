"""One session on a server, which may reconnect, and move to another server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final as Constant
from typing import Self

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from ...streaming.audio.samples import as_packet, checked, shaped
from ...streaming.config import SAMPLE_BYTES
from ...streaming.protocol.events import (
    Ack,
    Error,
    Event,
    Final,
    Moving,
    SessionEnded,
    SessionMoved,
    SessionResumed,
    SessionStarted,
    SpeechEnded,
    Warning,
)
from ...streaming.protocol.messages import ClientMessage, Movable, Share, Start, to_json
from ..errors import ConnectionProblem
from .connection import Servers, next_try_s
from .controls import SessionControls
from .greeting import closing_problem, greet, parse, refusal
from .pcm import encode
from .position import SessionPosition
from .replay import ReplayBuffer

EVENT_QUEUE: Constant = 4_096  # unread events
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0  # between attempts to reconnect
FINAL_STATUSES: Constant = (401, 403, 404)  # refusals that no further attempt changes
BAD_SETTINGS: Constant = ("bad_config", "bad_grammar", "bad_model")
FINAL_CODES: Constant = ("resume_lost", "not_our_protocol", "proxy", *BAD_SETTINGS)
GOING_AWAY: Constant = 1001  # close code of a server that stops
SEARCH_S: Constant = 60.0  # for another server: a balancer may know only after 45 s that a machine is gone
MOVE_ANYWAY_S: Constant = 3.0  # before the server takes no more audio: also in the middle of an utterance


class Stream(SessionControls):
    """One session on a server, from `connect`."""

    def __init__(self, servers: Servers, connection: ClientConnection, start: Start) -> None:
        super().__init__(share=start.share)
        self.resumed = 0  # reconnections to the same session
        self.moved = 0  # times that another server continued the session
        self._servers = servers
        self._connection = connection
        self._start = start
        self._token: str | None = None  # for resuming the session
        self._resume_s = 0.0  # how long the server keeps the session
        self._received = 0  # number of events
        self._replay = ReplayBuffer(SAMPLE_BYTES[start.encoding] * start.channels, start.config)
        self._place = SessionPosition()
        self._held: list[Event] = []  # a final and what follows it, until its utterance ends
        self._announces = False  # whether to tell the server that this client can move
        self._leave_by: float | None = None  # when a server that will stop takes no more audio
        self._next_attempt = 0.0  # to leave it
        self._closing: set[asyncio.Task[None]] = set()  # old connections
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
    async def open(cls, servers: Servers, start: Start, wait_s: float) -> Self:
        """Connect and send the first message. Raises `ConnectionProblem`."""
        stream = cls(servers, await servers.open_within(wait_s), start)
        try:
            await stream._connection.send(to_json(start))
        except BaseException as error:
            await stream.aclose()
            if isinstance(error, ConnectionClosed):
                raise stream._closed() from None
            raise
        return stream

    @property
    def url(self) -> str:
        """The address of its server."""
        return self._servers.url

    async def send(self, audio: bytes | bytearray | memoryview | NDArray[np.floating]) -> None:
        """Send audio: bytes in the format given to `connect`, or float samples (n,) or (n, channels) in [-1, 1].

        Waits while the server is slower than the sender. Raises `AudioError` for other arrays and for samples that are
        not finite, and `ConnectionProblem` after the end of the session; the remaining events then give the reason.
        """
        packet = as_packet(audio)
        if isinstance(packet, np.ndarray):
            packet = encode(checked(shaped(packet, self._start.channels)), self._start.encoding)
        await self._send(packet)

    async def aclose(self) -> None:
        """Close the connection at once and drop the remaining events."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await asyncio.gather(self._connection.close(), *self._closing)
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
                    if self._announces:
                        self._announces = False
                        await connection.send(to_json(Movable()))
                    await connection.send(message)
                except ConnectionClosed:
                    if self._reader.done() or not self._continues(connection):
                        raise self._problem or self._closed() from None
                return  # an unsent message is in the replay buffer, and `_resume` sends it

    # ── receiving ──

    async def _read(self) -> None:
        """Read events until the session ends; reconnect if the connection breaks."""
        try:
            while True:
                connection = self._connection
                with suppress(ConnectionClosed):
                    async for message in connection:
                        if await self._receive(parse(message)):
                            return
                        if self._leaves and await self._leave():
                            break
                if self._connection is not connection:
                    continue
                if not self._continues(connection):
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
            while self._held:
                self._events.put_nowait(self._held.pop(0))
            self._events.put_nowait(None)

    async def _receive(self, event: Event) -> bool:
        """Handle an event; return whether it is the last one."""
        match event:
            case Ack(received=received):
                self._replay.acknowledge(received, event.safe or None)
                self._may_send.set()
                return False
            case SessionStarted() | SessionMoved():
                event = self._started(event)
            case Moving(within_s=seconds):
                self._leave_by = asyncio.get_running_loop().time() + seconds
            case Warning(code=code) if code in BAD_SETTINGS:
                self._replay.refused(code)
            case Error():
                self._error = event
            case _:
                pass
        self._received += 1
        self._place.receive(event)
        self._take_key(event)
        # An utterance ends as a whole: a server that vanishes in between must not make another repeat its final.
        self._held.append(event)
        if not isinstance(self._held[0], Final) or isinstance(event, SpeechEnded | SessionEnded | Error):
            held, self._held = self._held, []
            for each in held:
                await self._events.put(each)
        return isinstance(event, SessionEnded)

    def _started(self, event: SessionStarted | SessionMoved) -> SessionStarted | SessionMoved:
        """Handle the start of a session; returns what the caller needs of the event."""
        self._token, self._resume_s = event.resume or None, event.resume_s or 0.0
        self._replay.keeps = self._announces = bool(event.movable)
        if not self._token:
            self._replay.disable()
            self._may_send.set()
        return replace(event, resume=msgspec.UNSET, resume_s=msgspec.UNSET, movable=msgspec.UNSET)

    # ── reconnecting and moving ──

    def _continues(self, connection: ClientConnection) -> bool:
        """Whether the session continues after this connection: on the same server if it broke without a close frame, on
        another if its server stops.
        """
        if self._token is None:
            return False
        closed = connection.protocol.close_rcvd
        return closed is None or (closed.code == GOING_AWAY and self._replay.complete)

    async def _reconnect(self) -> None:
        """Connect again and resume the session, or continue it on another server. Raises `ConnectionProblem` if the
        server's time limit passes, or `SEARCH_S` for a session that can move.
        """
        loop = asyncio.get_running_loop()
        longest_s = max(self._resume_s, SEARCH_S) if self._replay.complete else self._resume_s
        deadline, pause, told = loop.time() + longest_s, FIRST_PAUSE_S, 0.0
        home = self._servers.current
        gone = self._connection.protocol.close_rcvd is not None
        while True:
            elsewhere = gone or self._servers.current != home
            try:
                connection = await self._servers.open(resumes=not elsewhere)
                return await (self._move if elsewhere else self._resume)(connection)
            except ConnectionProblem as problem:
                if problem.code == "resume_lost" and self._replay.complete:
                    gone = True
                    continue
                if problem.code in BAD_SETTINGS and self._replay.config != self._start.config:
                    self._replay.config = self._start.config  # of a message that the server had refused
                    continue
                final = problem.status in FINAL_STATUSES or problem.code in FINAL_CODES
                told = max(told, next_try_s(problem) or 0.0)
                if (final and self._servers.current == home) or loop.time() + max(pause, told) > deadline:
                    raise  # what another server refuses, the session's own may still do
            except ConnectionClosed:  # the new connection broke too
                if loop.time() + pause > deadline:
                    raise self._closed() from None
            if self._replay.complete:
                self._servers.next()
            if self._servers.current == home:
                await asyncio.sleep(max(told, pause * random.uniform(0.5, 1.5)))  # random: not all clients at once
                pause, told = min(2 * pause, LONGEST_PAUSE_S), 0.0

    async def _resume(self, connection: ClientConnection) -> None:
        try:
            event = await greet(connection, Start(resume=self._token, events=self._received))
            if not isinstance(event, SessionResumed):
                raise refusal(event)
            async with self._send_lock:
                for message in self._replay.since(event.received):
                    await connection.send(message)
                self._connection = connection
        except BaseException:
            await connection.close()
            raise
        self.resumed += 1
        self._announces = self._replay.keeps
        self._may_send.set()

    async def _move(self, connection: ClientConnection) -> None:
        """Continue the session on another server, which begins with the safe sample."""
        try:
            origin = self._place.origin(self._replay.safe)
            shared = self._title is not None
            start = replace(self._start, config=self._replay.config, share=shared, origin=origin, events=self._received)
            event = await greet(connection, start)
            if not isinstance(event, SessionMoved):
                raise refusal(event)
            async with self._send_lock:
                if self._title:
                    self._replay.add(to_json(Share(self._title)))
                for message in self._replay.restart():
                    await connection.send(message)
                self._connection = connection
        except BaseException:
            await connection.close()
            raise
        self.moved += 1
        self._leave_by = None
        self._held.clear()  # the other server gives this final again
        await self._receive(event)
        self._may_send.set()

    @property
    def _leaves(self) -> bool:
        """Whether it is time to leave a server that will stop: between utterances, or at the last moment."""
        if self._leave_by is None or not self._replay.complete:
            return False
        now = asyncio.get_running_loop().time()
        return now >= self._next_attempt and (not self._place.open or now >= self._leave_by - MOVE_ANYWAY_S)

    async def _leave(self) -> bool:
        """Move while this server still listens. False if no other server takes the session now."""
        old, home = self._connection, self._servers.current
        self._servers.next()
        try:
            await self._move(await self._servers.open_any())
        except (ConnectionProblem, ConnectionClosed):
            self._servers.current = home
            self._next_attempt = asyncio.get_running_loop().time() + 5 * FIRST_PAUSE_S
            return False
        closing = asyncio.create_task(old.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        return True

    def _closed(self) -> ConnectionProblem:
        return closing_problem(self._connection, self._error)
