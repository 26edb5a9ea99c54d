"""Sentence case: partials, finals and commands agree, and text with small letters stays."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.captions.case import SentenceCase, in_sentence
from xlsr_live.streaming.protocol.events import Event, Final, Guess, Partial, Rejected, Translation, Word

WORDS = st.lists(st.text("ABIÉ'", min_size=1, max_size=4), min_size=1, max_size=6)


def words(texts: list[str]) -> tuple[Word, ...]:
    return tuple(Word(text, 0.0, 1.0, 0.9) for text in texts)


def partial(texts: list[str], committed: int) -> Partial:
    stable, rest = " ".join(texts[:committed]), " ".join(texts[committed:])
    return Partial(utterance=0, committed=stable, volatile=rest, words=words(texts), audio_s=1.0)


def final(texts: list[str]) -> Final:
    return Final(utterance=0, text=" ".join(texts), words=words(texts), start=0.0, end=1.0, confidence=0.9)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("HELLO WORLD", "Hello world"),
        ("A CAT AND A DOG", "A cat and a dog"),
        ("THEN I SAID I'M IN", "Then I said I'm in"),
        ("B O B IS ÉTIENNE", "B O B is étienne"),
        ("", ""),
        ("你 好", "你 好"),
    ],
)
def test_a_sentence(written: str, expected: str):
    assert in_sentence(written) == expected


@given(WORDS, st.integers(0, 6))
@settings(deadline=None)
def test_a_partial_and_its_final_agree_wherever_the_partial_is_split(texts: list[str], committed: int):
    case = SentenceCase()
    shown, end = case.receive(partial(texts, committed)), case.receive(final(texts))
    assert isinstance(shown, Partial)
    assert isinstance(end, Final)
    assert " ".join(filter(None, (shown.committed, shown.volatile))) == end.text
    assert [word.word for word in shown.words] == [word.word for word in end.words] == end.text.split()
    assert end.text.upper() == " ".join(texts)


@given(WORDS)
@settings(deadline=None)
def test_small_letters_mean_that_the_model_has_them(texts: list[str]):
    case = SentenceCase()
    lower = final([*texts, "a"])
    assert case.receive(lower) is lower
    event = final(texts)
    assert case.receive(event) is event


def test_translations_stay_and_the_best_guess_of_rejected_speech_changes():
    case = SentenceCase()
    translation: Event = Translation(utterance=0, language="es", text="HOLA")
    assert case.receive(translation) is translation
    rejected = Rejected(utterance=0, reason="unmatched", score=0.2, best=Guess("light", {}, "LIGHT ON", 0.2))
    changed = case.receive(rejected)
    assert isinstance(changed, Rejected)
    assert changed.best is not None
    assert changed.best.text == "Light on"
