"""The order of translations, and what is said about those that are missing."""

from __future__ import annotations

from random import Random

import pytest
from xlsr_live.streaming.protocol.events import Translation
from xlsr_live.streaming.translation.order import TranslationOrder
from xlsr_live.streaming.translation.service import NoTranslation

from tests.support.translators import final, translated, warned


@pytest.mark.parametrize("seed", range(5))
def test_a_hundred_utterances_completed_in_any_order_come_in_order(seed: int):
    random = Random(seed)
    order = TranslationOrder(["es", "fr"])
    open_, events, asked = [], [], iter(range(100))
    while True:
        if (utterance := next(asked, None)) is not None:
            for language in ("es", "fr"):
                order.receive_final(final(utterance), language, 0.0)
                open_.append((utterance, language))
        if not open_:
            break
        for _ in range(random.randrange(4)):
            if open_:
                utterance, language = open_.pop(random.randrange(len(open_)))
                lost = random.random() < 0.2
                outcome = NoTranslation("failed", "why") if lost else f"{language} {utterance}"
                order.receive_outcome(utterance, language, outcome, 1.0)
                events += order.events()
    assert order.pending == 0
    order.finish()
    events += order.events()
    for language in ("es", "fr"):
        numbers = [event.utterance for event in events if isinstance(event, Translation) and event.language == language]
        assert numbers == sorted(numbers)
        assert translated(events, language) == [f"{language} {number}" for number in numbers]
        lost = 100 - len(numbers)
        each = [message for message in warned(events) if message.endswith(f"into {language}: why")]
        assert len(each) == lost or f"{lost} finals have no translation into {language}" in warned(events)


def test_a_translation_has_the_times_of_its_final_and_says_how_late_it_is():
    order = TranslationOrder(["es"])
    order.receive_final(final(3, "HELLO"), "es", 10.0)
    assert order.events() == []
    order.receive_outcome(3, "es", "Hola", 10.25)
    (event,) = order.events()
    assert event == Translation(utterance=3, language="es", text="Hola", of="final", start=3.0, end=4.0)
    assert event.lag_ms == 250.0


def test_a_series_of_failures_has_one_warning_and_the_end_counts_all():
    order = TranslationOrder(["es"])
    for utterance, fails in enumerate([True, True, True, False, True]):
        order.receive_final(final(utterance), "es", 0.0)
        order.receive_outcome(utterance, "es", NoTranslation("late", "too late") if fails else "x", 0.0)
    before = order.events()
    assert translated(before) == ["x"]
    assert warned(before) == [f"utterance {number} has no translation into es: too late" for number in (0, 4)]
    order.finish()
    assert warned(order.events()) == ["4 finals have no translation into es"]


def test_one_failure_is_told_once():
    order = TranslationOrder(["es"])
    order.receive_final(final(0), "es", 0.0)
    order.receive_outcome(0, "es", NoTranslation("failed", "broken"), 0.0)
    order.receive_outcome(0, "es", "too late to matter", 0.0)
    order.finish()
    assert warned(order.events()) == ["utterance 0 has no translation into es: broken"]


def test_giving_up_releases_what_is_ready_and_reports_the_rest():
    order = TranslationOrder(["es"])
    for utterance in range(3):
        order.receive_final(final(utterance), "es", 0.0)
    order.receive_outcome(1, "es", "ready", 0.0)
    assert order.events() == []
    order.give_up(NoTranslation("late", "the session has ended"), 1.0)
    assert order.pending == 0
    events = order.events()
    assert translated(events) == ["ready"]
    assert len(warned(events)) == 2  # before and after it
