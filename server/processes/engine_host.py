"""The engine process's side: serves an engine to any number of fronts.

A front that ends, however it ends, frees its caches and withdraws its requests.
"""

from __future__ import annotations

import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...streaming.engine.service import EngineService
from ...streaming.errors import ConfigError, XlsrLiveError
from ...streaming.model_languages import ManyLanguages
from ...streaming.requests import CacheHandle
from .link import ProcessLink, attach, start_thread
from .messages import (
    EngineMessage,
    EngineStatus,
    Greeting,
    ModelDescription,
    SentAnswer,
    SentRequest,
    VocabularyQuestion,
    from_front,
    received_cache,
    received_reuse,
    to_front,
)

Float32 = NDArray[np.float32]

RETRY_S: Final = 0.01  # after a connection that could not be accepted
STATUS_S: Final = 0.25  # between two messages with the engine's status

log = logging.getLogger("xlsr_live.engine")


class EngineHost:
    """Serves from its construction to `close`, at the address of a Unix socket. The caller owns the engine."""

    def __init__(
        self,
        engine: EngineService,
        languages: ManyLanguages | None,
        description: ModelDescription,
        address: str,
        memory: Callable[[], dict[str, int]] = dict,
    ) -> None:
        self._engine = engine
        self._languages = languages
        self._description = description
        self._memory = memory  # of a GPU, bytes by kind
        self._links: list[_FrontLink] = []
        self._closing = threading.Event()
        self._listener = Listener(address, "AF_UNIX", authkey=multiprocessing.current_process().authkey)
        start_thread(self._accept, "xlsr-accept")
        start_thread(self._report, "xlsr-status")

    @property
    def fronts(self) -> int:
        """Number of connected fronts."""
        return len(self._links)

    def close(self) -> None:
        """Cut all links."""
        self._closing.set()
        self._listener.close()
        for link in list(self._links):
            link.cut()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection = self._listener.accept()
            except (OSError, EOFError, AuthenticationError):  # that client left, or the listener is closed
                self._closing.wait(RETRY_S)
                continue
            start_thread(partial(self._serve, connection), "xlsr-front")

    def _serve(self, connection: Connection) -> None:
        with suppress(OSError, EOFError):
            match connection.recv():
                case Greeting() as greeting:
                    link = _FrontLink(attach(connection, greeting, self._description), self._engine)
                    self._links.append(link)
                    try:
                        link.run()
                    finally:
                        self._links.remove(link)
                case VocabularyQuestion(language):
                    with connection:
                        connection.send(self._vocabulary(language))
                case _:
                    connection.close()

    def _vocabulary(self, language: str) -> Any:
        try:
            if self._languages is None:
                raise ConfigError("the model has one language")
            self._languages.ensure(language)
            return self._languages.vocabulary(language)
        except XlsrLiveError as error:
            return error

    def _report(self) -> None:
        while not self._closing.wait(STATUS_S):
            engine, counters = self._engine, self._engine.counters
            status = EngineStatus(
                alive=engine.alive,
                healthy=engine.healthy,
                working_s=engine.working_s,
                queued=engine.queued,
                restarts=counters.restarts,
                busy_s=counters.busy_s,
                batch_sizes=list(counters.batch_sizes.counts),
                batched=counters.batch_sizes.total,
                memory=self._memory(),
            )
            for link in list(self._links):
                link.report(status)


class _FrontLink:
    """One front."""

    def __init__(self, link: ProcessLink, engine: EngineService) -> None:
        self._link = link
        self._engine = engine
        self._handles: dict[int, CacheHandle] = {}  # by the number of the front's own handle
        self._requests: set[int] = set()  # unanswered and wanted
        self._answers: list[tuple[int, Future[Float32]]] = []
        self._status: EngineStatus | None = None
        self._gone = False
        self._changed = threading.Condition()

    def run(self) -> None:
        """Receive until the front is gone, then free everything that it had."""
        sending = start_thread(self._send, "xlsr-answers")
        try:
            while True:
                self._take()
        except (OSError, EOFError):
            log.info("a front has left")
        finally:
            with self._changed:
                self._gone = True
                self._requests.clear()
                self._changed.notify()
            self._link.hang_up()
            for handle in self._handles.values():
                self._engine.release(handle)
            self._handles.clear()
            sending.join()
            self._link.close()

    def cut(self) -> None:
        self._link.hang_up()

    def report(self, status: EngineStatus) -> None:
        """Send the status with the next answers."""
        with self._changed:
            self._status = status
            self._changed.notify()

    def _take(self) -> None:
        message = from_front.decode(self._link.receive())
        for cache in message.caches:
            self._handles[cache.number] = received_cache(cache)
        for request in message.requests:
            self._submit(request)
        self._requests.difference_update(message.withdrawn)
        for number in message.released:
            if (handle := self._handles.pop(number, None)) is not None:
                self._engine.release(handle)

    def _submit(self, request: SentRequest) -> None:
        samples = self._link.receive_array(request.samples)
        reuse = None
        if request.cache is not None:
            reuse = received_reuse(request, self._handles[request.cache])
        self._requests.add(request.number)
        future = self._engine.submit(
            samples,
            deadline=request.deadline,
            wanted=partial(self._requests.__contains__, request.number),
            reuse=reuse,
            language=request.language,
        )
        future.add_done_callback(partial(self._answered, request.number))

    def _answered(self, number: int, answer: Future[Float32]) -> None:
        with self._changed:
            self._requests.discard(number)
            self._answers.append((number, answer))
            self._changed.notify()

    def _send(self) -> None:
        try:
            while True:
                with self._changed:
                    while not (self._answers or self._status or self._gone):
                        self._changed.wait()
                    if self._gone:
                        return
                    answers, self._answers = self._answers, []
                    status, self._status = self._status, None
                self._send_all(answers, status)
        except (OSError, EOFError):
            self._link.hang_up()  # the receiving thread frees everything

    def _send_all(self, answers: list[tuple[int, Future[Float32]]], status: EngineStatus | None) -> None:
        sent: list[SentAnswer] = []

        def flush() -> None:
            self._link.send(to_front.encode(EngineMessage(sent, status)))
            sent.clear()

        for number, answer in answers:
            if answer.cancelled():
                sent.append(SentAnswer(number))
            elif (error := answer.exception()) is not None:
                sent.append(SentAnswer(number, error=str(error) or type(error).__name__))
            else:
                rows = np.ascontiguousarray(answer.result(), np.float32)
                sent.append(SentAnswer(number, self._link.send_array(rows, flush), rows.shape[1]))
        flush()


def wait_for_fronts(host: EngineHost, longest_s: float) -> None:
    """Wait until no front is connected."""
    end = time.monotonic() + longest_s
    while host.fronts and time.monotonic() < end:
        time.sleep(0.05)
