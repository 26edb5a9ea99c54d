"""The driver between a session and an engine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.driver import SessionDriver
from xlsr_live.streaming.errors import EngineError
from xlsr_live.streaming.overload import Level
from xlsr_live.streaming.protocol.events import Error, Event, Final
from xlsr_live.streaming.session.session import Session

from tests.support.driving import Float32, lines, run
from tests.support.fakes import VOCABULARY, FakeEncoder, LoudVad, sound

SPEECH = sound("..AB CD " + "." * 10 + "EF GH " + "." * 10)


class Inline:
    """An engine that runs each job immediately, in the thread of the caller."""

    level = Level.WIDE

    def __init__(self, decoding: Exception | None = None) -> None:
        self.encoder = FakeEncoder()
        self.decoded = 0
        self._decoding = decoding

    def submit(
        self, samples: Float32, *, deadline: float, wanted: Callable[[], bool], reuse: Any, language: str | None
    ) -> Future[Float32]:
        done: Future[Float32] = Future()
        if wanted():
            done.set_result(self.encoder.rows(samples))
        else:
            done.cancel()
        return done

    def search(self, decode: Callable[[], Any], *, deadline: float, wanted: Callable[[], bool]) -> Future[Any]:
        if isinstance(self._decoding, EngineError):
            raise self._decoding
        self.decoded += 1
        done: Future[Any] = Future()
        if self._decoding is not None:
            done.set_exception(self._decoding)
        else:
            done.set_result(decode() if wanted() else None)
        return done


def drive(engine: Any, *, adaptive: bool = False) -> tuple[list[Event], SessionDriver]:
    """Events of a session whose finals need decode jobs."""
    config = SessionConfig(hotwords=("HGFEDCBA:1",))
    session = Session(VOCABULARY, config, vad=LoudVad(), normalized=False, name="s")
    answers: list[Callable[[], None]] = []
    driver = SessionDriver(session, engine, hand_over=answers.append, clock=lambda: 0.0, adaptive=adaptive)
    driver.receive_audio(SPEECH)
    session.receive_eof(0.0)
    events = driver.pump()
    while answers:
        answers.pop(0)()
        events += driver.pump()
    assert session.ended
    return events, driver


def test_encode_jobs_and_decode_jobs_are_answered_and_the_events_equal_those_of_the_core():
    engine = Inline()
    events, driver = drive(engine)
    assert lines(events) == lines(run([SPEECH], SessionConfig(hotwords=("HGFEDCBA:1",))))
    assert engine.decoded == 2
    assert driver.unanswered == 0


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (EngineError("the engine is closed"), "the engine is closed;"),
        (RuntimeError("no memory"), "decoding failed"),
    ],
)
def test_a_decode_job_that_fails_is_an_error_event_and_loses_no_final(error: Exception, message: str):
    events, driver = drive(Inline(decoding=error))
    errors = [event for event in events if isinstance(event, Error)]
    assert [event.code for event in errors] == ["encoder_failed"] * 2
    assert all(event.message.startswith(message) for event in errors)
    assert [event.text for event in events if isinstance(event, Final)] == ["AB CD", "EF GH"]
    assert driver.unanswered == 0


@pytest.mark.parametrize("adaptive", [False, True])
def test_only_an_adaptive_session_follows_the_level_of_the_engine(adaptive: bool):
    events, _ = drive(Inline(), adaptive=adaptive)
    assert {event.level for event in events[1:]} == {Level.WIDE if adaptive else Level.NORMAL}


def test_a_driver_that_is_stopped_ignores_answers():
    session = Session(VOCABULARY, vad=LoudVad(), normalized=False)
    answers: list[Callable[[], None]] = []
    engine: Any = Inline()
    driver = SessionDriver(session, engine, hand_over=answers.append, clock=lambda: 0.0, adaptive=False)
    driver.receive_audio(SPEECH)
    driver.pump()
    driver.stop()
    for answer in answers:
        answer()
    assert driver.pump() == []
