"""An overloaded service degrades live text and keeps finals and committed text."""

from __future__ import annotations

from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.overload import Ladder, Level
from xlsr_live.streaming.protocol.events import Event, Final, Partial, SessionStarted, SpeechEnded
from xlsr_live.streaming.requests import CachedStep
from xlsr_live.streaming.session.session import Session

from tests.support.driving import Driver, lines, pieces, utterances
from tests.support.fakes import VOCABULARY, FakeEncoder, LoudVad, sound
from tests.support.strategies import configs, large, packet_sizes, seeds, sounds

levels = st.lists(st.sampled_from(list(Level)), min_size=1, max_size=12)


class Strained(Driver):
    """Changes the level with every packet."""

    def run_at(self, packets, levels: list[Level]) -> list[Event]:
        def packets_at_levels():
            for number, packet in enumerate(packets):
                self.session.receive_level(levels[number % len(levels)])
                yield packet

        return self.run(packets_at_levels())


def strained(audio, config: SessionConfig, levels: list[Level], sizes, seed: int | None) -> list[Event]:
    encoder = FakeEncoder(context=False)  # the words of a frame do not depend on the other audio of a step
    session = Session(
        VOCABULARY, config, vad=LoudVad(), normalized=False, modes=("cached", "window", "offline"), name="s"
    )
    packets = large(audio) if seed is None else pieces(audio, sizes * 8)
    return Strained(session, encoder, None if seed is None else Random(seed)).run_at(packets, levels)


def unmarked(events: list[Event], *kinds: type) -> str:
    return lines([msgspec.structs.replace(event, level=0) for event in events if isinstance(event, kinds)])


@given(sounds, configs(), levels, packet_sizes, seeds)
@settings(max_examples=120, deadline=None)
def test_utterances_and_finals_equal_those_of_an_idle_service(audio, config, levels, sizes, seed):
    """Except at the last level: without live steps only the gate and the length limit end an utterance."""
    levels = [min(level, Level.SHORT) for level in levels]
    rest = strained(audio, config, [Level.NORMAL], sizes, None)
    loaded = strained(audio, config, levels, sizes, seed)
    utterances(loaded)
    assert unmarked(loaded, Final, SpeechEnded) == unmarked(rest, Final, SpeechEnded)


@given(sounds, configs(trailing_blank_ms=0), levels, packet_sizes, seeds)
@settings(max_examples=60, deadline=None)
def test_without_live_steps_the_finals_are_equal(audio, config, levels, sizes, seed):
    rest = strained(audio, config, [Level.NORMAL], sizes, None)
    loaded = strained(audio, config, levels, sizes, seed)
    utterances(loaded)
    if config.finals == "full":
        assert unmarked(loaded, Final, SpeechEnded) == unmarked(rest, Final, SpeechEnded)
    assert unmarked(loaded, Final).count("final") == unmarked(rest, Final).count("final")


def test_each_level_requests_less():
    audio = sound("AB CD EF GH " * 12)
    counts = {}
    for level in Level:
        session = Session(VOCABULARY, SessionConfig(), vad=None, normalized=False, modes=("cached",))
        encoder, steps = FakeEncoder(), []
        for packet in pieces(audio, [1_600] * 100):
            session.receive_level(level)
            session.receive_audio(packet, 0.0)
            live = [request for request in session.requests() if request.kind == "live"]
            assert level == Level.NORMAL or len(live) <= 1
            for request in live:
                assert isinstance(request.reuse, CachedStep)
                steps.append(request.window)
                (rows,) = encoder.encode_steps([(request.samples, request.reuse)])
                session.receive_answer(request.id, rows, 0.0)
        partials = [event for event in session.events() if isinstance(event, Partial)]
        assert all(partial.level == level for partial in partials)
        assert any(partial.volatile for partial in partials) == (level < Level.COMMITTED)
        counts[level] = sum(step.newest - step.committed for step in steps), len(steps)
    assert (
        counts[Level.NORMAL]
        > counts[Level.WIDE]
        > counts[Level.COMMITTED]
        == counts[Level.SHORT]
        > counts[Level.FINALS]
    )
    assert counts[Level.FINALS] == (0, 0)


def test_utterances_that_start_on_a_high_level_have_a_shorter_left_context():
    session = Session(VOCABULARY, SessionConfig(), vad=None, normalized=False, modes=("cached",))
    session.receive_level(Level.SHORT)
    session.receive_audio(sound("AB CD EF GH " * 8), 0.0)
    (request, *_) = session.requests()
    assert request.reuse.cache.left_context == 50


def test_the_widest_hop_can_be_set():
    session = Session(VOCABULARY, SessionConfig(max_hop_ms=480), vad=None, normalized=False, modes=("cached",))
    session.receive_level(Level.COMMITTED)
    session.receive_audio(sound("AB CD EF GH " * 8), 0.0)
    (request, *_) = session.requests()
    assert request.window.newest == 24


def test_every_event_has_its_lag_and_level():
    session = Session(VOCABULARY, SessionConfig(), vad=LoudVad(), normalized=False)
    encoder = FakeEncoder()
    session.receive_level(Level.WIDE)
    session.receive_audio(sound("AB CD EF GH AB CD EF GH " + "." * 9), 1.0)
    session.receive_eof(1.0)
    while requests := session.requests():
        for request in requests:
            session.receive_answer(request.id, encoder.rows(request.samples), 3.5)
    events = session.events()
    assert isinstance(events[0], SessionStarted)
    kinds = {type(event).__name__ for event in events}
    assert kinds == {"SessionStarted", "SpeechStarted", "Partial", "Final", "SpeechEnded", "SessionEnded"}
    assert all(event.level == 1 for event in events[1:])
    assert {event.lag_ms for event in events[2:]} == {2_500.0}


def test_audio_faster_than_live_has_later_deadlines():
    config = SessionConfig(hop_ms=480)
    audio = sound("AB CD EF GH " * 40)[:320_000]

    def deadlines(pace: float) -> list[float]:
        session = Session(VOCABULARY, config, vad=None, normalized=False)
        for index, packet in enumerate(pieces(audio, [1_600] * 200)):
            session.receive_audio(packet, 0.1 * (index + 1) / pace if pace else 0.0)
        return [request.deadline for request in session.requests()]

    for pace in (1.0, 1.4):  # a clock that runs fast, a burst after a hitch
        live = deadlines(pace)
        assert all(abs(due - 0.48 * k / pace - 0.48) < 0.11 for k, due in enumerate(live, start=1))
    at_once = deadlines(0)
    assert all(due >= 0.48 * k / 1.5 for k, due in enumerate(at_once, start=1))


# ── the ladder itself ──


def levels_after(ladder: Ladder, start: float, seconds: float, *, waited: float, allowed: float = 0.5) -> list[Level]:
    """Ten answers a second, each after `waited` seconds; the level at the end of every second."""
    seen = []
    for tick in range(round(seconds * 10)):
        now = start + (tick + 1) / 10
        ladder.answered(now, waited=waited, allowed=allowed)
        if tick % 10 == 9:
            seen.append(ladder.level(now))
    return seen


def test_late_answers_raise_the_level_and_early_ones_lower_it():
    ladder = Ladder()
    assert levels_after(ladder, 0, 20, waited=0.1) == [Level.NORMAL] * 20
    up = levels_after(ladder, 20, 16, waited=0.9)
    assert up[-1] == Level.FINALS
    assert up == sorted(up)
    assert set(levels_after(ladder, 36, 30, waited=0.3)) == {Level.FINALS}  # in time, but not early
    down = levels_after(ladder, 66, 40, waited=0.05)
    assert down[-1] == Level.NORMAL
    assert down == sorted(down, reverse=True)
    assert down.count(Level.FINALS) >= 3  # not at once


def test_one_late_second_changes_nothing_and_two_raise_the_level():
    for seconds, level in ((1, Level.NORMAL), (2, Level.WIDE)):
        ladder = Ladder()
        levels_after(ladder, 0, 5, waited=0.1)
        for tick in range(seconds * 10):
            ladder.answered(5 + (tick + 1) / 10, waited=0.1 if tick % 2 else 0.6, allowed=0.5)
        assert max(levels_after(ladder, 5 + seconds, 1, waited=0.3)) == level


def test_answers_to_requests_of_the_level_below_do_not_count():
    ladder = Ladder()
    levels_after(ladder, 0, 1, waited=0.9)
    assert ladder.level(1.0) == Level.WIDE
    for tick in range(30):  # a backlog of five seconds
        ladder.answered(1.1 + tick / 10, waited=5.0, allowed=0.5)
    assert ladder.level(4.1) == Level.WIDE


def test_a_backlog_of_the_level_below_does_not_lower_the_level():
    """Lowering the level would lengthen the backlog, so the level stays."""
    ladder = Ladder()
    levels_after(ladder, 0, 16, waited=0.9)
    assert ladder.level(16.0) == Level.FINALS
    for tick in range(600):  # all requested at the beginning
        now = 16.1 + tick / 10
        ladder.answered(now, waited=now, allowed=0.5)
        assert ladder.level(now) == Level.FINALS
    assert ladder.level(76.1 + 30) == Level.NORMAL


def test_one_late_answer_among_many_changes_nothing():
    ladder = Ladder()
    for second in range(60):
        ladder.answered(second + 0.5, waited=5.0, allowed=0.5)
        levels_after(ladder, second, 1, waited=0.1)
    assert ladder.level(60.0) == Level.NORMAL


def test_a_service_without_requests_recovers():
    ladder = Ladder()
    levels_after(ladder, 0, 16, waited=0.9)
    assert ladder.level(16.0) == Level.FINALS
    assert ladder.level(1_000.0) == Level.NORMAL
