"""Translations of one session's finals, between its events and the service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final as Constant

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from ..errors import ConfigError
from ..frames import ms
from ..overload import Level
from ..protocol.events import Event, Final, SessionEnded, SpeechEnded
from ..requests import Job, Request
from .order import TranslationOrder
from .routes import Route, find_route
from .service import NoTranslation, Outcome, TranslationJob, TranslationService
from .translator import Segment

LIVE_PACE: Constant = 1.5  # finals of audio that comes faster than this many times real time are not urgent
MOST_PENDING: Constant = 32  # translations; with more, audio of a session with `complete` waits


class SessionTranslator:
    """Adds translations to the events of one session. `SessionEnded` stays the last event.

    `complete`: no translation is skipped because it is late; the session's audio waits instead. All calls come from
    the session's thread; `hand_over` passes functions from other threads to it. Raises `ConfigError` for a language
    without a translator.
    """

    def __init__(
        self,
        service: TranslationService,
        wanted: Sequence[str],
        source: str | None,
        complete: bool,
        hand_over: Callable[[Callable[[], None]], None],
    ) -> None:
        self._service = service
        self._source = source
        self._complete = complete
        self._hand_over = hand_over
        # Where the language of each utterance is identified, a route may depend on it.
        self._routes: dict[tuple[str | None, str], Route | ConfigError] = {}
        self._wanted: dict[str, Route] = {}
        for name in wanted:
            route = self._route(source, name)
            if all(route.language != other.language for other in self._wanted.values()):
                self._wanted[name] = route
        self._order = TranslationOrder(route.language for route in self._wanted.values())
        self._needs_audio = any(route.translator and route.translator.speech for route in self._wanted.values())
        self._audio: dict[int, NDArray[np.float32]] = {}  # of the newest second pass, by utterance
        self._live_time = float("-inf")
        self._last_end = 0.0
        self._ending: SessionEnded | None = None
        self._stopped = False

    @property
    def pending(self) -> int:
        """Translations that are still to come."""
        return self._order.pending

    @property
    def congested(self) -> bool:
        """Whether the session's audio must wait."""
        return self._complete and self.pending >= MOST_PENDING

    @property
    def ends_within_s(self) -> float | None:
        """How long `SessionEnded` may wait before `give_up`; None: it does not wait."""
        if self._ending is None:
            return None
        return float("inf") if self._complete else self._service.max_lag_s

    def receive_job(self, job: Job) -> None:
        """Keep the audio of a second pass, which translators of speech need."""
        if self._needs_audio and isinstance(job, Request) and job.kind == "final":
            self._audio[job.utterance] = job.samples

    def receive_events(self, events: Sequence[Event], level: Level) -> list[Event]:
        """The session's events, with warnings and translations among them."""
        passed: list[Event] = []
        for event in events:
            match event:
                case SessionEnded():
                    self._ending = event
                    passed += self._release()
                    continue
                case Final():
                    passed.append(event)
                    for name in self._wanted:
                        self._request(event, name, level)
                case SpeechEnded():
                    self._audio.pop(event.utterance, None)
                    passed.append(event)
                case _:
                    passed.append(event)
        return [*passed, *self._release()]

    def give_up(self) -> None:
        """End the session without the pending translations."""
        self._order.give_up(NoTranslation("late", "the session has ended"), self._service.clock())

    def stop(self) -> None:
        """Withdraw all jobs. Any thread may call it."""
        self._stopped = True

    # ── how it works ──

    def _request(self, final: Final, name: str, level: Level) -> None:
        source = self._source if final_language(final) is None else final_language(final)
        now = self._service.clock()
        language = self._wanted[name].language
        self._order.receive_final(final, language, now)
        receive = partial(self._receive, final.utterance, language, now)
        try:
            route = self._route(source, name)
        except ConfigError as error:
            return receive(NoTranslation("failed", str(error)))
        if route.translator is None:
            return receive(final.text)
        if route.translator.costly and level > Level.NORMAL and not self._complete:
            return receive(NoTranslation("dropped", "the recognizer is overloaded"))
        samples = self._audio.get(final.utterance) if route.translator.speech else None
        if route.translator.speech and (samples is None or abs(len(samples) - _length(final)) > ms(2)):
            return receive(
                NoTranslation("failed", "there is no audio of it: a translator of speech needs finals 'full'")
            )
        self._service.submit(
            TranslationJob(
                route.translator,
                Segment(final.text, samples, route.source, route.target),
                due=self._due(final, now),
                done=lambda outcome: self._hand_over(partial(receive, outcome)),
                wanted=lambda: not self._stopped,
            )
        )
        return None

    def _due(self, final: Final, now: float) -> float:
        if self._complete:
            return float("inf")
        self._live_time = max(now, self._live_time + (final.end - self._last_end) / LIVE_PACE)
        self._last_end = final.end
        return self._live_time + self._service.max_lag_s

    def _receive(self, utterance: int, language: str, requested: float, outcome: Outcome) -> None:
        counters, now = self._service.counters, self._service.clock()
        if isinstance(outcome, NoTranslation):
            counters.missing[outcome.kind] += 1
        else:
            counters.done[language] += 1
            counters.waits.observe(now - requested)
        self._order.receive_outcome(utterance, language, outcome, now)

    def _release(self) -> list[Event]:
        events = self._order.events()
        if self._ending is not None and not self._order.pending:
            self._order.finish()
            events += [*self._order.events(), self._ending]
            self._ending = None
        return events

    def _route(self, source: str | None, name: str) -> Route:
        key = source, name
        if key not in self._routes:
            try:
                self._routes[key] = find_route(self._service.translators, source, name)
            except ConfigError as error:
                self._routes[key] = error
        found = self._routes[key]
        if isinstance(found, ConfigError):
            raise found
        return found


def final_language(final: Final) -> str | None:
    language = getattr(final, "language", UNSET)
    return language if isinstance(language, str) else None


def _length(final: Final) -> int:
    """Samples of the utterance."""
    return ms(1000 * (final.end - final.start))
