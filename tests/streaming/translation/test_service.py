"""The thread that translates: its queue, its batches, and translators that fail, hang or run out of memory."""

from __future__ import annotations

from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

import pytest
from xlsr_live.streaming.translation.service import (
    MOST_ABANDONED,
    NoTranslation,
    Outcome,
    TranslationJob,
    TranslationService,
)
from xlsr_live.streaming.translation.translator import Segment

from tests.support.translators import LIMIT, FakeTranslator, Gate, service


def patient(*translators: Any, **options: Any) -> TranslationService:
    """For the tests in which no call hangs: a busy machine may answer late."""
    return service(*translators, call_timeout_s=LIMIT, **options)


class Impatient(TranslationService):
    """Soon leaves a call with this text behind, and no other one."""

    def __init__(self, held: str, *translators: Any, wait_s: float = 0.05, **options: Any) -> None:
        super().__init__(translators, call_timeout_s=wait_s, **options)
        self._held, self._wait_s = held, wait_s

    def _call(self, batch: list[TranslationJob]) -> list[str]:
        self._call_timeout_s = self._wait_s if batch[0].segment.text == self._held else LIMIT
        return super()._call(batch)


class Asker:
    """Submits texts and takes the outcomes."""

    def __init__(self, service: TranslationService, translator: Any) -> None:
        self.service = service
        self.outcomes: SimpleQueue[tuple[str, Outcome]] = SimpleQueue()
        self._translator = translator

    def ask(self, text: str, due: float = float("inf"), **options: Any) -> None:
        segment = Segment(text, None, "en", "es")
        self.service.submit(
            TranslationJob(
                self._translator, segment, due, lambda outcome: self.outcomes.put((text, outcome)), **options
            )
        )

    def take(self, count: int) -> dict[str, Outcome]:
        return dict(self.outcomes.get(timeout=LIMIT) for _ in range(count))


@pytest.fixture
def gate():
    gate = Gate("HELD")
    yield gate
    gate.go.set()


def test_every_job_gets_its_translation():
    translator = FakeTranslator()
    asker = Asker(patient(translator), translator)
    for number in range(20):
        asker.ask(f"T{number}")
    assert asker.take(20) == {f"T{number}": f"es:T{number}" for number in range(20)}
    asker.service.close()
    assert translator.closed


def test_what_is_due_first_comes_first_and_similar_lengths_share_a_batch(gate: Gate):
    translator = FakeTranslator(gate, max_batch=3)
    asker = Asker(patient(translator), translator)
    asker.ask("HELD")
    assert gate.reached.wait(LIMIT)
    for text, due in [("LATER", 1e12), ("FIRST", 1e11), ("X" * 400, 1e11 + 1), ("NEXT", 1e11 + 2), ("THIRD", 1e11 + 3)]:
        asker.ask(text, due)
    gate.go.set()
    asker.take(6)
    batches = [[segment.text for segment in batch] for batch in translator.batches]
    assert batches == [["HELD"], ["FIRST", "NEXT", "THIRD"], ["X" * 400], ["LATER"]]


class Panic(BaseException):
    """As of a tokenizer's Rust code, which is no Exception."""


@pytest.mark.parametrize("error", [RuntimeError("broken"), MemoryError(), ValueError(), TimeoutError(), Panic()])
def test_a_failure_does_not_fail_its_neighbours(gate: Gate, error: BaseException):
    def trouble(segments: Sequence[Segment]) -> None:
        gate(segments)
        if any(segment.text == "BAD" for segment in segments):
            raise error

    translator = FakeTranslator(trouble, max_batch=8)
    asker = Asker(patient(translator), translator)
    asker.ask("HELD")
    assert gate.reached.wait(LIMIT)
    for text in ("ONE", "BAD", "TWO"):
        asker.ask(text)
    gate.go.set()
    outcomes = asker.take(4)
    assert outcomes.pop("BAD") == NoTranslation("failed", str(error) or type(error).__name__)
    assert outcomes == {text: f"es:{text}" for text in ("HELD", "ONE", "TWO")}


def test_a_call_that_hangs_is_left_behind_and_the_next_utterance_is_translated(gate: Gate):
    translator = FakeTranslator(gate)
    asker = Asker(Impatient("HELD", translator), translator)
    asker.ask("HELD")
    asker.ask("NEXT")
    outcomes = asker.take(2)
    assert outcomes == {
        "HELD": NoTranslation("failed", "the translator does not answer within 0.05 s"),
        "NEXT": "es:NEXT",
    }
    assert asker.service.counters.hung == 1
    gate.go.set()  # its answer comes too late, and changes nothing
    asker.ask("LAST")
    assert asker.take(1) == {"LAST": "es:LAST"}


def test_a_translator_whose_calls_never_end_gets_no_more_of_them(gate: Gate):
    translator, other = FakeTranslator(gate), FakeTranslator()
    hanging = Impatient("HELD", translator, other, wait_s=0.5)  # each call has begun by then
    asker = Asker(hanging, translator)
    for _ in range(MOST_ABANDONED + 3):
        asker.ask("HELD")
        assert asker.take(1) == {"HELD": NoTranslation("failed", "the translator does not answer within 0.5 s")}
    assert hanging.counters.hung == len(translator.batches) == MOST_ABANDONED
    beside = Asker(hanging, other)
    beside.ask("FINE")
    assert beside.take(1) == {"FINE": "es:FINE"}
    gate.go.set()
    for caller in hanging._abandoned[translator]:
        assert caller._thread is not None
        caller._thread.join(LIMIT)
    asker.ask("BACK")
    assert asker.take(1) == {"BACK": "es:BACK"}


def test_a_full_queue_keeps_jobs_that_are_never_late(gate: Gate):
    translator = FakeTranslator(gate)
    asker = Asker(patient(translator, limit=2), translator)
    asker.ask("HELD")
    assert gate.reached.wait(LIMIT)
    texts = [f"T{number}" for number in range(5)]
    for text in texts:
        asker.ask(text)
    gate.go.set()
    assert asker.take(6) == {text: f"es:{text}" for text in ["HELD", *texts]}


def test_an_empty_text_is_no_translation():
    class Silent(FakeTranslator):
        def translate(self, segments: Sequence[Segment]) -> list[str]:
            return [""] * len(segments)

    translator = Silent()
    asker = Asker(patient(translator), translator)
    asker.ask("ONE")
    assert asker.take(1) == {"ONE": NoTranslation("failed", "the translator gives no text")}


def test_what_is_overdue_is_not_translated_any_more():
    now = [100.0]
    translator = FakeTranslator()
    asker = Asker(patient(translator, clock=lambda: now[0]), translator)
    asker.ask("OLD", 99.0)
    asker.ask("YOUNG", 101.0)
    assert asker.take(2) == {"OLD": NoTranslation("late", "it would be later than 10 s"), "YOUNG": "es:YOUNG"}
    assert [segment.text for batch in translator.batches for segment in batch] == ["YOUNG"]


def test_what_becomes_late_while_it_is_translated_is_skipped():
    now = [100.0]

    def slow(segments: Sequence[Segment]) -> None:
        now[0] = 120.0

    translator = FakeTranslator(slow)
    asker = Asker(patient(translator, clock=lambda: now[0]), translator)
    asker.ask("SLOW", 110.0)
    assert asker.take(1) == {"SLOW": NoTranslation("late", "it took longer than 10 s")}


def test_a_full_queue_drops_what_is_least_urgent(gate: Gate):
    translator = FakeTranslator(gate)
    asker = Asker(patient(translator, limit=2), translator)
    asker.ask("HELD")
    assert gate.reached.wait(LIMIT)
    for text, due in [("B", 1e12), ("A", 1e11), ("C", 1e13), ("A2", 1e11)]:
        asker.ask(text, due)
    dropped = NoTranslation("dropped", "too many utterances wait")
    assert asker.take(2) == {"C": dropped, "B": dropped}
    gate.go.set()
    assert asker.take(3) == {"HELD": "es:HELD", "A": "es:A", "A2": "es:A2"}


def test_what_nobody_wants_any_more_is_left_out(gate: Gate):
    translator = FakeTranslator(gate)
    asker = Asker(patient(translator), translator)
    asker.ask("HELD")
    assert gate.reached.wait(LIMIT)
    asker.ask("LEFT", wanted=lambda: False)
    asker.ask("NEXT")
    gate.go.set()
    assert asker.take(2) == {"HELD": "es:HELD", "NEXT": "es:NEXT"}
    assert len(translator.batches) == 2


def test_a_translator_with_too_few_texts_is_not_believed():
    class Short(FakeTranslator):
        def translate(self, segments: Sequence[Segment]) -> list[str]:
            return []

    translator = Short()
    asker = Asker(patient(translator), translator)
    asker.ask("ONE")
    (outcome,) = asker.take(1).values()
    assert isinstance(outcome, NoTranslation)


def test_closing_answers_all_that_wait(gate: Gate):
    translator = FakeTranslator(gate)
    asker = Asker(patient(translator), translator)
    asker.ask("HELD")
    assert gate.reached.wait(LIMIT)
    asker.ask("NEXT")
    asker.service.close()
    assert asker.take(1) == {"NEXT": NoTranslation("failed", "the recognizer is closed")}
    asker.ask("AFTER")
    assert asker.take(1) == {"AFTER": NoTranslation("failed", "the recognizer is closed")}
