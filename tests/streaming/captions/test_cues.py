"""Cues from finals: the limits of the guidelines, every word once, and the same cues for any split of the words."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.captions.cues import (
    GAP,
    LATE,
    LINE_CHARS,
    LINES,
    LONGEST,
    SHORTEST,
    SPEED,
    Cue,
    CueMaker,
    cues,
)
from xlsr_live.streaming.captions.line_breaks import two_lines
from xlsr_live.streaming.protocol.events import Final, Partial, SpeechEnded, Word

MS = 0.001  # tolerance for rounding to milliseconds


def final(
    texts: list[str], times: list[float], *, start: float = 0.0, separator: str = " ", utterance: int = 0
) -> Final:
    """Words of these durations, each followed by a pause of a third of it."""
    words: list[Word] = []
    at = start
    for text, took in zip(texts, times, strict=True):
        words.append(Word(text, round(at, 3), round(at + 0.75 * took, 3), 0.9))
        at += took
    text = separator.join(texts)
    return Final(utterance=utterance, text=text, words=tuple(words), start=start, end=at, confidence=0.9)


def evenly_timed(text: str, word_s: float = 0.4, start: float = 0.0) -> Final:
    return final(text.split(), [word_s] * len(text.split()), start=start)


@st.composite
def sessions(draw: st.DrawFn) -> list[Final]:
    """Consecutive utterances of any words at any pace."""
    finals: list[Final] = []
    at = 0.0
    for utterance in range(draw(st.integers(1, 4))):
        at += draw(st.floats(0.0, 5.0))
        texts = draw(st.lists(st.text("ABC-<>'", min_size=1, max_size=100), min_size=1, max_size=60))
        word_s = draw(st.floats(0.05, 3.0))
        times = [word_s * draw(st.sampled_from([1.0, 1.0, 3.0])) for _ in texts]
        finals.append(final(texts, times, start=at, separator=draw(st.sampled_from([" ", ""])), utterance=utterance))
        at = finals[-1].end
    return finals


def characters(found: list[Cue]) -> str:
    return "".join("".join(cue.lines) for cue in found).replace(" ", "")


@settings(max_examples=50, deadline=None)
@given(sessions())
def test_every_character_once_and_the_guidelines_hold(finals: list[Final]):
    maker = CueMaker()
    found = [cue for one in finals for cue in maker.receive(one)]
    assert characters(found) == "".join(final.text for final in finals).replace(" ", "")
    free = finals[0].words[0].start
    for cue in found:
        assert 1 <= len(cue.lines) <= LINES
        assert all(0 < len(line) <= LINE_CHARS for line in cue.lines)
        assert cue.start >= free - MS
        assert SHORTEST - MS <= cue.end - cue.start <= LONGEST + MS
        free = cue.end + GAP
    assert maker.made == len(found)
    assert maker.fast == sum(cue.speed > SPEED + 0.1 for cue in found)


@settings(max_examples=50, deadline=None)
@given(sessions(), st.integers(0, 1000))
def test_any_split_of_the_words_gives_the_same_cues(finals: list[Final], seed: int):
    """With finals="append" committed words arrive in pieces, and the final adds nothing."""
    whole, random = list(cues(finals)), Random(seed)
    maker = CueMaker(early=True)
    found: list[Cue] = []
    for one in finals:
        committed = 0
        while committed < len(one.words):
            committed += random.randint(0, 7)
            words = one.words[:committed]
            text = (" " if " " in one.text else "").join(word.word for word in words)
            shown = Partial(utterance=one.utterance, committed=text, volatile="", words=words, audio_s=1.0, lag_ms=0.0)
            found += maker.receive(shown)
            assert found == whole[: len(found)]
        found += maker.receive(one)
        found += maker.receive(SpeechEnded(utterance=one.utterance, end=one.end, reason="end"))
    assert found == whole


def test_volatile_words_and_revisable_partials_make_no_cue():
    words = tuple(Word(f"W{n}", n * 1.0, n + 0.5, 0.9, committed=n < 3) for n in range(40))
    shown = Partial(utterance=0, committed="W0 W1 W2", volatile="...", words=words, audio_s=40.0, lag_ms=0.0)
    assert CueMaker(early=True).receive(shown) == []
    everything = Partial(
        utterance=0, committed="...", volatile="", words=evenly_timed("W " * 40).words, audio_s=40.0, lag_ms=0.0
    )
    assert CueMaker().receive(everything) == []


def test_a_cue_is_as_long_as_its_words_if_they_are_slow_enough():
    (cue,) = cues([evenly_timed("ONE TWO THREE")])
    assert cue == Cue(0.0, 1.1, ("ONE TWO THREE",))


def test_fast_speech_gets_time_from_the_pause_that_follows():
    maker = CueMaker()
    (cue,) = maker.receive(evenly_timed("TWENTY CHARACTERS HERE", word_s=0.3))
    assert cue.end == pytest.approx(22 / SPEED, abs=MS)
    (late,) = maker.receive(evenly_timed("AND WHAT IS SAID RIGHT AFTER IT IS A LITTLE LATE", word_s=0.3, start=0.9))
    assert late.start == pytest.approx(cue.end + GAP, abs=MS)
    assert maker.fast == 0


def test_speech_too_fast_to_read_loses_no_word_is_counted_and_stays_within_the_delay_bound():
    text = "EXTRAORDINARILY " * 60
    finals = [evenly_timed(text, word_s=0.3, start=start) for start in (0.0, 18.0)]
    maker = CueMaker()
    found = [cue for one in finals for cue in maker.receive(one)]
    assert " ".join(line for cue in found for line in cue.lines).split() == text.split() * 2
    assert maker.fast > 10
    begins = iter(word.start for one in finals for word in one.words)
    for cue in found:
        first, *_ = [next(begins) for line in cue.lines for _ in line.split()]
        assert -MS <= cue.start - first <= LATE + MS


def test_lines_break_before_a_clause_and_not_after_an_article():
    words = evenly_timed("HE WENT DOWN TO THE RIVER WHICH WAS HIGHER THAN THE DAY BEFORE").words
    assert two_lines(words, " ", LINE_CHARS) == ("HE WENT DOWN TO THE RIVER", "WHICH WAS HIGHER THAN THE DAY BEFORE")
    assert two_lines(words, " ", 10) == ()


def test_a_cue_ends_at_a_pause():
    text = "THE FIRST PART OF WHAT HE HAD TO SAY TOOK AN HOUR THEN AFTER SOME TIME CAME QUITE ANOTHER THING"
    texts = text.split()
    times = [0.3] * len(texts)
    times[texts.index("HOUR")] = 2.0  # a quarter of the time is silence
    first, second = cues([final(texts, times)])
    assert first.lines[-1].endswith("HOUR")
    assert second.lines[0].startswith("THEN")


def test_a_long_silence_separates_even_two_words():
    times = [0.4, 6.0, 0.4]
    assert [cue.lines for cue in cues([final(["ONE", "TWO", "THREE"], times)])] == [("ONE TWO",), ("THREE",)]


def test_a_narrower_line_for_teletext():
    found = CueMaker(line_chars=32).receive(evenly_timed("SEVENTEEN " * 12))
    assert max(len(line) for cue in found for line in cue.lines) == 29
