"""Sessions that translate: in an event loop, from files, and with the real Apertium."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.errors import ConfigError
from xlsr_live.streaming.live import StreamSession
from xlsr_live.streaming.overload import Level
from xlsr_live.streaming.protocol.events import Event, Final, SessionEnded, Translation
from xlsr_live.streaming.recognizer import Recognizer
from xlsr_live.streaming.session.session import Session
from xlsr_live.streaming.translation.service import TranslationService
from xlsr_live.streaming.translation.session import MOST_PENDING, SessionTranslator

from tests.streaming.translation.test_service import Impatient
from tests.support.driving import lines, run
from tests.support.fakes import VOCABULARY, FakeEncoder, LoudVad, sound
from tests.support.paths import DIGITS
from tests.support.streams import LIMIT, SPEECH, events_of, running, say, until
from tests.support.translators import FakeTranslator, Gate, apertium, final, service, translated, warned

PATIENT: dict[str, Any] = {"call_timeout_s": LIMIT, "max_lag_s": LIMIT}  # a busy machine may answer late
MANY = np.concatenate([sound(f"..{word} " + "." * 10) for word in ("AB", "CD", "EF", "GH", "BA")])


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(FakeEncoder(), adaptive=False)
    yield engine
    engine.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.go.set()


def translating(
    engine: Engine, translation: TranslationService, *wanted: str, complete: bool = False, **config: Any
) -> StreamSession:
    core = Session(VOCABULARY, SessionConfig(**config), vad=LoudVad(), normalized=False, name="s")
    translate = partial(SessionTranslator, translation, wanted, "en", complete=complete)
    return StreamSession(core, engine, clock=lambda: 0.0, translate=lambda hand_over: translate(hand_over=hand_over))


def without(events: list[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, Translation)]


def test_translations_follow_their_finals_and_change_no_other_event(engine: Engine):
    events = running(lambda: say(translating(engine, service(FakeTranslator(), **PATIENT), "es", "German"), SPEECH))
    assert lines(without(events)) == lines(run([SPEECH]))
    assert translated(events, "es") == ["es:AB CD", "es:EF GH"]
    assert translated(events, "de") == ["de:AB CD", "de:EF GH"]
    for event in events:
        if isinstance(event, Translation):
            (own,) = (each for each in events if isinstance(each, Final) and each.utterance == event.utterance)
            assert events.index(own) < events.index(event)
            assert (event.start, event.end) == (own.start, own.end)
    assert isinstance(events[-1], SessionEnded)


def test_a_translator_that_hangs_delays_no_final_and_the_next_utterance_is_translated(engine: Engine, gate: Gate):
    gate._texts = ("AB",)
    translation = Impatient("AB", FakeTranslator(gate), max_lag_s=LIMIT)
    events = running(lambda: say(translating(engine, translation, "es"), MANY))
    assert lines([each for each in without(events) if each.__class__.__name__ != "Warning"]) == lines(run([MANY]))
    assert translated(events) == ["es:CD", "es:EF", "es:GH", "es:BA"]
    assert len(warned(events)) == 1


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), MemoryError()])
def test_a_translator_that_always_fails_costs_one_warning_and_a_count(engine: Engine, error: Exception):
    def fail(segments: Any) -> None:
        raise error

    events = running(lambda: say(translating(engine, service(FakeTranslator(fail), **PATIENT), "es"), MANY))
    assert lines([each for each in events if each.__class__.__name__ != "Warning"]) == lines(run([MANY]))
    assert len(warned(events)) == 2
    assert warned(events)[-1] == "5 finals have no translation into es"


def test_finals_come_while_the_translator_is_busy(engine: Engine, gate: Gate):
    async def scene() -> list[Event]:
        stream = translating(engine, service(FakeTranslator(gate), **PATIENT), "es")
        events: list[Event] = []

        async def listen() -> None:
            async for event in stream:
                events.append(event)

        listening = asyncio.create_task(listen())
        await stream.send(MANY)
        await stream.end()
        await until(lambda: sum(isinstance(event, Final) for event in events) == 5)
        assert not translated(events)
        assert not isinstance(events[-1], SessionEnded)
        gate.go.set()
        await listening
        return events

    assert translated(running(scene)) == ["es:AB", "es:CD", "es:EF", "es:GH", "es:BA"]


def test_the_end_waits_for_translations_but_not_for_ever(engine: Engine, gate: Gate):
    translation = service(FakeTranslator(gate), max_lag_s=0.05, call_timeout_s=LIMIT, clock=lambda: 0.0)
    events = running(lambda: say(translating(engine, translation, "es"), SPEECH))
    assert isinstance(events[-1], SessionEnded)
    assert not translated(events)
    assert warned(events)[0] == "utterance 0 has no translation into es: the session has ended"


def test_a_session_with_complete_translations_waits_with_its_audio_and_skips_nothing(engine: Engine, gate: Gate):
    audio = np.concatenate([MANY] * 10)
    translation = service(FakeTranslator(gate), max_lag_s=1e-9, call_timeout_s=LIMIT)

    async def scene() -> list[Event]:
        stream = translating(engine, translation, "es", complete=True)
        saying = asyncio.create_task(say(stream, audio))
        await until(lambda: stream._driver.congested)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not saying.done()
        assert MOST_PENDING <= stream._driver._translator.pending < 50
        gate.go.set()
        return await saying

    events = running(scene)
    assert len(translated(events)) == 50
    assert not warned(events)


def test_a_session_that_is_closed_withdraws_its_translations(engine: Engine, gate: Gate):
    translation = service(FakeTranslator(gate))

    async def scene() -> None:
        stream = translating(engine, translation, "es")
        listening = asyncio.create_task(events_of(stream))
        await stream.send(MANY)
        await until(gate.reached.is_set)
        await stream.aclose()
        await listening

    running(scene)
    gate.go.set()
    translation.close()
    assert translation.waiting == 0


def overloaded(translator: FakeTranslator, *, complete: bool) -> list[Event]:
    adds = SessionTranslator(service(translator), ["es"], "en", complete=complete, hand_over=lambda take: take())
    return adds.receive_events([final(0)], Level.WIDE)


def test_an_overloaded_recognizer_drops_costly_translations_first():
    costly = FakeTranslator()
    costly.costly = True
    assert warned(overloaded(costly, complete=False)) == [
        "utterance 0 has no translation into es: the recognizer is overloaded"
    ]
    assert not warned(overloaded(FakeTranslator(), complete=False))
    assert not warned(overloaded(costly, complete=True))


def test_speech_is_translated_from_the_audio_of_the_second_pass(engine: Engine):
    translator = FakeTranslator(speech=True)
    events = running(lambda: say(translating(engine, service(translator, **PATIENT), "es"), SPEECH))
    assert translated(events) == ["es:AB CD", "es:EF GH"]
    heard = [batch[0].samples for batch in translator.batches]
    finals = [event for event in events if isinstance(event, Final)]
    assert len(heard) == len(finals)
    for samples, own in zip(heard, finals, strict=True):
        start, end = round(own.start * 16_000), round(own.end * 16_000)
        assert abs(len(samples) - (end - start)) <= 32
        at = range(max(0, start - 16), start + 17)
        assert any(np.array_equal(samples, SPEECH[first : first + len(samples)]) for first in at)


def test_without_a_second_pass_there_is_no_audio_to_translate(engine: Engine):
    translation = service(FakeTranslator(speech=True))
    events = running(lambda: say(translating(engine, translation, "es", finals="append"), SPEECH))
    assert "needs finals 'full'" in warned(events)[0]


@pytest.mark.parametrize("wanted", ["en", "eng", "English"])
def test_a_language_that_is_spoken_already_is_passed_on(wanted: str):
    adds = SessionTranslator(
        service(FakeTranslator()), [wanted, "es"], "en", complete=False, hand_over=lambda take: take()
    )
    events = adds.receive_events([final(0, "HELLO")], Level.NORMAL)
    assert translated(events, "en") == ["HELLO"]


@pytest.mark.parametrize("wanted", ["nl", "", "x" * 100, "Klingon"])
def test_an_unknown_language_is_refused_with_those_that_there_are(engine: Engine, wanted: str):
    async def scene() -> None:
        with pytest.raises(ConfigError, match="there is: es, fr, de"):
            translating(engine, service(FakeTranslator()), wanted)

    running(scene)


def test_without_a_translator_the_message_says_how_to_get_one(packaged: Recognizer):
    with pytest.raises(ConfigError, match="--translator"):
        list(packaged.stream(SPEECH, SessionConfig(translate_to=("es",))))


def test_recorded_english_is_spanish_through_apertium(
    clip: Callable[[str], NDArray[np.int16]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("xlsr_live.streaming.translation.apertium.ANSWER_S", LIMIT)
    translator = apertium()
    translator._answer_s = LIMIT
    said = clip("george").astype(np.float32) / 32_768
    with Recognizer.load(str(DIGITS), device="cpu", adaptive=False, translate_from="English") as recognizer:
        plain = list(recognizer.stream(said))
        recognizer.translation = service(translator, call_timeout_s=LIMIT)
        events = list(recognizer.stream(said, SessionConfig(translate_to=("Spanish",))))
    assert without(events)[1:] == plain[1:]  # the first has the session's name
    (translation,) = (event for event in events if isinstance(event, Translation))
    assert translation.language == "es"
    assert translation.text == "Uno dos nueve cuatro ocho un"
