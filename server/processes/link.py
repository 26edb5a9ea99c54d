"""Both ends of the connection between a front and the engine: messages in a socket, arrays in shared memory."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Client, Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...streaming.errors import EngineError
from .messages import Greeting, ModelDescription, SentArray
from .ring import Ring, ring_bytes

Float32 = NDArray[np.float32]

AUDIO: Final = 1 << 20  # items of the ring for audio: 4 MiB, 65 s
ROWS: Final = 1 << 19  # items of the ring for rows: 2 MiB
FULL_S: Final = 0.001  # between two looks at a full ring


class LinkMemory:
    """Shared memory with two rings. The front creates it; `name` attaches to it."""

    def __init__(self, audio: int, rows: int, name: str | None = None) -> None:
        size = ring_bytes(audio) + ring_bytes(rows)
        options: dict[str, Any] = {"create": True, "size": size} if name is None else {"name": name}
        if name is not None and sys.version_info >= (3, 13):
            options["track"] = False  # the front unlinks it
        self._shared = SharedMemory(**options)
        buffer = self._shared.buf
        assert buffer is not None
        self.audio, self.rows = Ring(buffer[: ring_bytes(audio)]), Ring(buffer[ring_bytes(audio) : size])
        self.greeting = Greeting(self._shared.name, audio, rows)

    def unlink(self) -> None:
        """Remove its name once both sides are attached: then it ends with them, however they end."""
        self._shared.unlink()

    def close(self) -> None:
        self.audio.close()
        self.rows.close()
        self._shared.close()


class ProcessLink:
    """One end. One thread sends and another receives; any may call `hang_up`."""

    def __init__(self, connection: Connection, memory: LinkMemory, outgoing: Ring, incoming: Ring) -> None:
        self.known: set[int] = set()  # caches that the engine was told about
        self._connection = connection
        self._memory = memory
        self._outgoing, self._incoming = outgoing, incoming
        self._open = True
        self._sending = threading.Lock()

    def send_array(self, array: Float32, flush: Callable[[], None]) -> SentArray:
        """Pass an array to the other side.

        If the ring is full, calls `flush`, which must send the places so far: then the other side can take those
        arrays. Raises `OSError` or `EOFError` when the link is cut.
        """
        if array.size > self._outgoing.largest:
            return SentArray(array.size, content=array.tobytes())
        if (place := self._put(array)) is None:
            flush()
        while place is None:
            time.sleep(FULL_S)
            place = self._put(array)
        return SentArray(array.size, place)

    def _put(self, array: Float32) -> int | None:
        with self._sending:
            if not self._open:
                raise EOFError
            return self._outgoing.put(array)

    def receive_array(self, sent: SentArray) -> Float32:
        """An array of the other side, (count,). Call it for every one, in order."""
        if sent.place < 0:
            return np.frombuffer(sent.content, np.float32)
        return self._incoming.take(sent.place, sent.count)

    def send(self, message: bytes) -> None:
        """Raises `OSError` or `EOFError` when the link is cut."""
        with self._sending:
            if not self._open:
                raise EOFError
            self._connection.send_bytes(message)

    def receive(self) -> bytes:
        """Wait for a message. Raises `OSError` or `EOFError` when the link is cut."""
        return self._connection.recv_bytes()

    def hang_up(self) -> None:
        """Cut the link: both sides then get errors."""
        self._open = False
        with suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as cut:
            cut.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the memory; the receiving thread calls it last."""
        self.hang_up()
        with self._sending:
            self._connection.close()
            self._memory.close()


def connect(address: str) -> tuple[ProcessLink, ModelDescription]:
    """Connect a front to the engine at this address. Raises `OSError` or `EOFError` if there is none."""
    connection = Client(address, "AF_UNIX", authkey=multiprocessing.current_process().authkey)
    memory = LinkMemory(AUDIO, ROWS)
    try:
        connection.send(memory.greeting)
        description = connection.recv()
    except BaseException:
        connection.close()
        memory.close()
        raise
    finally:
        memory.unlink()
    return ProcessLink(connection, memory, memory.audio, memory.rows), description


def attach(connection: Connection, greeting: Greeting, description: ModelDescription) -> ProcessLink:
    """The engine's end for the front that has sent this greeting."""
    memory = LinkMemory(greeting.audio, greeting.rows, greeting.memory)
    connection.send(description)
    return ProcessLink(connection, memory, memory.rows, memory.audio)


def ask(address: str, question: object) -> Any:
    """The engine's answer to a question. Raises `EngineError` without an engine, and an answer that is an error."""
    try:
        with Client(address, "AF_UNIX", authkey=multiprocessing.current_process().authkey) as connection:
            connection.send(question)
            answer = connection.recv()
    except (OSError, EOFError) as error:
        raise EngineError("the engine process does not answer; try again later") from error
    if isinstance(answer, Exception):
        raise answer
    return answer


def start_thread(run: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
