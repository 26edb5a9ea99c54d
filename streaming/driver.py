"""Connects one session to an engine: passes jobs to the engine and answers to the session."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any

from .engine.service import EngineService
from .errors import EngineError, XlsrLiveError
from .protocol.events import Event
from .requests import DecodeJob, Job, Request
from .session.session import Session
from .translation.session import SessionTranslator

Call = Callable[[], None]
Translate = Callable[[Callable[[Call], None]], SessionTranslator]  # makes a session's translator from its `hand_over`


class SessionDriver:
    """The engine answers in its own threads. There the driver calls `hand_over` with a function; the session's thread
    must call that function, then `pump`. With `adaptive` the session follows the engine's level.
    """

    def __init__(
        self,
        session: Session,
        engine: EngineService,
        *,
        hand_over: Callable[[Call], None],
        clock: Callable[[], float],
        adaptive: bool,
        translate: Translate | None = None,
    ) -> None:
        self.session = session
        self.unanswered = 0  # jobs
        self._engine = engine
        self._hand_over = hand_over
        self._clock = clock
        self._adaptive = adaptive
        self._stopped = False
        self._translator = None if translate is None else translate(hand_over)

    def receive_audio(self, packet: Any) -> None:
        """`Session.receive_audio` at the current time and the engine's level."""
        self._follow_level()
        self.session.receive_audio(packet, self._clock())

    def pump(self) -> list[Event]:
        """Submit the session's jobs and return its events."""
        for job in self.session.requests():
            if self._translator is not None:
                self._translator.receive_job(job)
            self._submit(job)
        self._release()
        events = self.session.events()
        return events if self._translator is None else self._translator.receive_events(events, self._engine.level)

    @property
    def ended(self) -> bool:
        """Whether there was a SessionEnded, which may wait for translations."""
        return self.session.ended and self.ends_within_s is None

    @property
    def pending(self) -> int:
        """Number of unfinished jobs and translations."""
        return self.unanswered + (0 if self._translator is None else self._translator.pending)

    @property
    def congested(self) -> bool:
        """Whether audio must wait for translations."""
        return self._translator is not None and self._translator.congested

    @property
    def ends_within_s(self) -> float | None:
        """Seconds that the end of the session may wait for translations, until `give_up`; None: it does not wait."""
        return None if self._translator is None else self._translator.ends_within_s

    def give_up(self) -> None:
        """Stop waiting for translations. Call `pump` afterwards."""
        if self._translator is not None:
            self._translator.give_up()

    def stop(self) -> None:
        """Withdraw all jobs and ignore later answers. Any thread may call it."""
        self._stopped = True
        if self._translator is not None:
            self._translator.stop()

    def abandon(self) -> None:
        """Stop, and drop the session with its cache."""
        self.stop()
        self.session.abandon()
        self._release()

    def _release(self) -> None:
        for cache in self.session.released():
            self._engine.release(cache)

    def _follow_level(self) -> None:
        if self._adaptive:
            self.session.receive_level(self._engine.level)

    def _submit(self, job: Job) -> None:
        self.unanswered += 1
        self._start(job).add_done_callback(lambda done: self._hand_over(partial(self._take, job, done)))

    def _start(self, job: Job) -> Future[Any]:
        wanted = partial(self._wants, job.id)
        match job:
            case Request():
                return self._engine.submit(
                    job.samples, deadline=job.deadline, wanted=wanted, reuse=job.reuse, language=job.language
                )
            case DecodeJob():
                try:
                    return self._engine.search(job.run, deadline=job.deadline, wanted=wanted)
                except EngineError as error:
                    failed: Future[Any] = Future()
                    failed.set_exception(error)
                    return failed

    def _wants(self, job: int) -> bool:
        return not self._stopped and self.session.wants(job)

    def _take(self, job: Job, done: Future[Any]) -> None:
        self.unanswered -= 1
        if self._stopped:
            return
        self._follow_level()
        now = self._clock()
        try:
            answer = done.result()
        except CancelledError:
            return
        except XlsrLiveError as error:
            self.session.receive_failure(job.id, str(error), now)
        except Exception as error:  # from the decoder; errors of the encoder arrive as an EngineError
            self.session.receive_failure(job.id, f"decoding failed: {error}", now)
        else:
            if answer is not None:  # None: unwanted
                self.session.receive_answer(job.id, answer, now)
