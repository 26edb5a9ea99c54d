"""Phrase spotting: whole words only, the best of overlapping phrases, any split, other words unchanged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.commands.hotwords import HotwordDecoder
from xlsr_live.streaming.commands.spotting import Phrases, Spotter
from xlsr_live.streaming.ctc.greedy import decode
from xlsr_live.streaming.ctc.vocabulary import Vocabulary
from xlsr_live.streaming.errors import ConfigError

VOCABULARY = Vocabulary.from_tokens(["<pad>", "|", *"ABCDEFGHIKLMNOPRSTUVWXY"], blank=0)
UNITS = Vocabulary.from_tokens(["<pad>", *"大厅灯开关"], blank=0, delimiter=None)


def rows_of(text: str, seed: int = 0, *, sure: float = 6.0, vocabulary: Vocabulary = VOCABULARY) -> np.ndarray:
    """Log-probabilities that spell `text`; `.` is 300 ms of blanks."""
    tokens: list[int] = []
    for char in text:
        tokens += [0] * 15 if char == "." else [vocabulary.texts.index(char), 0]
    logits = np.random.default_rng(seed).normal(0, 1, (len(tokens), len(vocabulary)))
    logits[np.arange(len(tokens)), tokens] += sure
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def read(rows: np.ndarray, boosts: dict[str, float], vocabulary: Vocabulary = VOCABULARY) -> str:
    decoder = HotwordDecoder(vocabulary, Phrases(boosts, vocabulary))
    decoder.push(rows)
    decoder.finish()
    return vocabulary.join(word.text for word in decoder.words)


@pytest.mark.parametrize(
    ("spoken", "boosts", "text"),
    [
        ("THE ALEXEI IS HERE", {"alexis": 3}, "THE ALEXIS IS HERE"),
        (
            "I SEE NEU YORG CITI",
            {"new york": 4, "new york city": 4},
            "I SEE NEW YORK CITY",
        ),  # the two gain more together
        ("I SEE NEU YORG DAWN", {"new york": 4, "new york city": 4}, "I SEE NEW YORK DAWN"),
        ("SAY ALEX AGAIN ALEX", {"alec": 4}, "SAY ALEC AGAIN ALEC"),
        ("ALEXANDER", {"alex": 2}, "ALEXANDER"),  # part of a longer word is no match
        ("ALEX.ANDER", {"alec": 2}, "ALECANDER"),  # the pause ends the phrase but not the word of the model
        ("THE CAT SAT", {"york": 4}, "THE CAT SAT"),
    ],
)
def test_phrases_replace_similar_words(spoken: str, boosts: dict[str, float], text: str):
    assert read(rows_of(spoken), boosts) == text


def test_without_boundaries_a_phrase_may_begin_and_end_anywhere():
    rows = rows_of("开大灯", vocabulary=UNITS)
    assert read(rows, {"大厅": 5}, UNITS) == "开大厅"


def test_a_larger_boost_accepts_less_similar_words():
    rows = rows_of("THE ALEX IS HERE")
    assert read(rows, {"alec": 0.5}) == "THE ALEX IS HERE"
    assert read(rows, {"alec": 2.5}) == "THE ALEC IS HERE"


PHRASES = {"alexis": 3.0, "new york": 3.0, "new york city": 3.0, "cab": 1.0}
speech = st.lists(st.sampled_from(["ALEXEI", "NEU", "YORK", "CITI", "CAP", "THE", "A", "."]), max_size=6).map(" ".join)
problems = st.tuples(speech, st.integers(0, 10**6), st.sampled_from([2.0, 4.0, 6.0]))


@given(problems, st.lists(st.integers(0, 9), max_size=20))
@settings(max_examples=60, deadline=None)
def test_any_split_gives_the_words_of_the_whole_and_words_only_grow(problem, cuts):
    text, seed, sure = problem
    rows = rows_of(text, seed, sure=sure)
    phrases = Phrases(PHRASES, VOCABULARY)
    whole = HotwordDecoder(VOCABULARY, phrases)
    whole.push(rows)
    whole.finish()
    decoder, at = HotwordDecoder(VOCABULARY, phrases), 0
    for cut in [*cuts, len(rows)]:
        before = list(decoder.words)
        decoder.push(rows[at : at + cut])
        at += cut
        assert decoder.words[: len(before)] == before
        assert [*decoder.words, *decoder.tail(rows[at:])] == whole.words
    decoder.finish()
    assert decoder.words == whole.words


@given(problems)
@settings(max_examples=60, deadline=None)
def test_words_far_from_every_phrase_are_unchanged(problem):
    text, seed, sure = problem
    rows = rows_of(text, seed, sure=sure)
    decoder = HotwordDecoder(VOCABULARY, Phrases({"vvvvvv": 0.5, "xxx ggggg": 0.5}, VOCABULARY))
    decoder.push(rows)
    decoder.finish()
    assert decoder.words == decode(rows, VOCABULARY)


@given(problems, st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_phrases_that_change_in_mid_stream_leave_committed_words(problem, cut):
    text, seed, sure = problem
    rows = rows_of(text, seed, sure=sure)
    decoder = HotwordDecoder(VOCABULARY, Phrases(PHRASES, VOCABULARY))
    decoder.push(rows[:cut])
    before = list(decoder.words)
    decoder.change(None)
    assert decoder.words[: len(before)] == before
    decoder.push(rows[cut:])
    decoder.finish()
    assert decoder.words[: len(before)] == before
    late = HotwordDecoder(VOCABULARY, None)
    late.change(Phrases(PHRASES, VOCABULARY))  # before the first frame: as if set from the start
    late.push(rows)
    late.finish()
    assert [w.text for w in late.words] == read(rows, PHRASES).split()


def test_a_wake_phrase_is_reported_at_its_end_with_its_frames():
    spotter = Spotter(Phrases({"hey alex": 0.7}, VOCABULARY), eager=True)
    rows = rows_of("THE CAB HEY ALEX STOP HEY ALEX....")
    found = [(at, each) for at in range(len(rows)) for each in spotter.push(rows[at : at + 1])]
    assert [(at, each.path.end) for at, each in found] == [(32, 33), (68, 69)]
    assert [each.phrase for _, each in found] == ["hey alex"] * 2
    assert all(each.score > 0.9 for _, each in found)
    assert not spotter.finish()


@pytest.mark.parametrize(
    ("boosts", "why"),
    [
        ({"a": 0.0}, "boost of 'a'"),
        ({"a": 21}, "boost"),
        ({"ä": 1}, "has no ä$"),
        ({"ä-é ä": 1}, "has no ä é$"),
        ({" ": 1}, "cannot write"),
        ({"10": 30}, "the number after the last colon is the boost; write a time as it is said"),  # typed as 10:30
        ({"7": 15}, "has no 7 .*the number after the last colon is the boost"),
    ],
)
def test_bad_phrases_are_refused(boosts: dict[str, float], why: str):
    with pytest.raises(ConfigError, match=why):
        Phrases(boosts, VOCABULARY)


def test_phrases_in_another_spelling_are_found_and_unknown_letters_reported():
    phrases = Phrases({"Groß‑Gerau": 3, "ale\u200bxis": 3}, VOCABULARY)
    assert phrases.notes == ["the model writes 'Groß‑Gerau' as 'GROSS GERAU'"]
    assert read(rows_of("I SEE GROS GERAU"), {"Groß‑Gerau": 3}) == "I SEE GROSS GERAU"
