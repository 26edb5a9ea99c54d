"""The figures of the benchmarks on examples small enough to count by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.client.bench.capacity import search
from xlsr_live.client.bench.decoding_variants import count_errors
from xlsr_live.client.bench.rare_words import distractors, rarest_words
from xlsr_live.client.bench.scoring import ErrorCount, TextNormalizer, interval, rate
from xlsr_live.client.bench.stability import changes, stability
from xlsr_live.client.output.latency import Latencies, TimedEvents, latencies, percentiles
from xlsr_live.streaming.ctc.lm import Weights
from xlsr_live.streaming.ctc.vocabulary import Vocabulary
from xlsr_live.streaming.protocol.events import Event, Final, Partial, SpeechEnded, SpeechStarted, Word

from tests.support.ngrams import language_model


def vocabulary(tokens: str, delimiter: str = "|") -> Vocabulary:
    return Vocabulary.from_tokens(["<pad>", *tokens], blank=0, delimiter=delimiter)


# --- error rates


def test_normalization_writes_a_text_in_the_letters_of_the_vocabulary():
    upper, lower, both = vocabulary("ABC'|"), vocabulary("abc|"), vocabulary("aBc-|")
    assert TextNormalizer(upper)("  a’b —\tc-A. ") == "A'B C A"
    assert TextNormalizer(lower)("A'B C-a") == "ab c a"
    assert TextNormalizer(both)("a-B c!") == "a-B c"
    assert TextNormalizer(upper)("e\u0301") == "É"  # composed, and kept though the vocabulary lacks it
    assert TextNormalizer(upper).lacking("caf\u00e9 3") == {"F", "É", "3"}


def test_errors_are_counted_for_words_and_characters():
    normalizer = TextNormalizer(vocabulary("ABC|"))
    assert normalizer.score("a b c", "A C C A") == (ErrorCount(2, 3), ErrorCount(3, 5))
    assert normalizer.score("", "A B") == (ErrorCount(2, 0), ErrorCount(3, 0))
    assert normalizer.score("a", "") == (ErrorCount(1, 1), ErrorCount(1, 1))


def test_without_word_boundaries_a_character_is_a_word():
    normalizer = TextNormalizer(vocabulary("你好吗"))
    assert normalizer.score("你 好，吗", "你吗")[0] == ErrorCount(1, 3)


def test_notes_name_the_case_and_the_letters_outside_the_vocabulary():
    notes = TextNormalizer(vocabulary("ABC|")).notes(["abc", "über"])
    assert "2 recordings; all text is upper case" in notes[0]
    assert notes[1] == "1 references have characters that this vocabulary cannot write: E R Ü"
    assert len(TextNormalizer(vocabulary("ABC|")).notes(["abc"])) == 1


def test_references_are_spelled_by_the_rules_of_hotwords():
    sharp, plain, turkish = vocabulary("STRAẞE|"), vocabulary("STRAE|"), vocabulary("abcğşıistnul|")
    assert TextNormalizer(sharp)("straße") == "STRAẞE"
    assert TextNormalizer(plain)("straße") == "STRASSE"
    assert TextNormalizer(turkish)("İSTANBUL ISIL") == "istanbul ısıl"
    assert TextNormalizer(vocabulary("abc-|"))("a‑b A–C") == "a-b a-c"
    assert "ß as SS" in TextNormalizer(plain).notes(["straße"])[-1]
    assert len(TextNormalizer(sharp).notes(["straße"])) == 1


def test_the_interval_holds_the_rate_and_narrows_with_more_utterances():
    few = [ErrorCount(0, 10), ErrorCount(3, 10), ErrorCount(1, 10), ErrorCount(0, 5)]
    low, high = interval(few)
    assert low < rate(few) == 4 / 35 < high
    narrow = interval(few * 50)
    assert low < narrow[0] < rate(few) < narrow[1] < high
    assert interval([ErrorCount(1, 4)] * 3) == (0.25, 0.25)
    assert rate([ErrorCount(2, 0)]) == 2


# --- stability


def words(text: str, *, committed: bool) -> tuple[Word, ...]:
    return tuple(Word(word, 0.0, 0.1, 1.0, committed) for word in text.split())


def partial(committed: str, volatile: str) -> Partial:
    both = (*words(committed, committed=True), *words(volatile, committed=False))
    return Partial(utterance=0, committed=committed, volatile=volatile, words=both, audio_s=0.0, lag_ms=0.0)


def final(text: str) -> Final:
    return Final(utterance=0, text=text, words=words(text, committed=True), start=0.0, end=1.0, confidence=1.0)


def ended() -> SpeechEnded:
    return SpeechEnded(utterance=0, end=1.0, reason="silence")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "a b", 0),
        ("a b", "a b c d", 0),  # added words are no change
        ("a b", "a c", 1),
        ("a b", "a", 1),
        ("a b", "x a b", 1),
        ("a b", "", 2),
        ("sev", "seven", 1),
    ],
)
def test_changes_count_the_words_that_are_replaced(old: str, new: str, expected: int):
    assert changes(old.split(), new.split()) == expected


@given(st.lists(st.sampled_from("ab"), max_size=6), st.lists(st.sampled_from("ab"), max_size=6))
@settings(deadline=None)
def test_changes_are_bounded_and_zero_where_the_old_text_continues(old: Sequence[str], more: Sequence[str]):
    assert changes(old, [*old, *more]) == 0
    assert changes(old, more) <= len(old)


def test_churn_counts_volatile_words_and_revision_committed_ones():
    events: list[Event] = [
        SpeechStarted(utterance=0, start=0.0),
        partial("", "one to"),
        partial("one", "two three"),  # "to" became "two": 1
        partial("one two", "tree four"),  # "three" became "tree": 1
        final("one too three four"),  # committed "two" changed: 1 revised; volatile "tree": 1
        ended(),
        partial("", "noise"),
        partial("noise", ""),  # unchanged, now committed
        ended(),  # no final: 1 revised
    ]
    counts = stability(events)
    assert (counts.replaced, counts.revised, counts.committed, counts.final) == (3, 2, 3, 4)
    assert counts.churn == 3 / 4
    assert counts.revision == 2 / 3


def test_counts_add_up():
    events: list[Event] = [partial("one", "tree"), final("one three"), ended()]
    total = stability(events)
    total += stability(events)
    assert total == stability([*events, *events])
    assert stability([final("one"), ended()]).churn == 0


# --- latency


def word(text: str, start: float, end: float, committed: bool = True) -> Word:
    return Word(text, start, end, 1.0, committed)


def shown(*known: Word, lag_ms: float = 50.0) -> Partial:
    return Partial(utterance=0, committed="", volatile="", words=known, audio_s=0.0, lag_ms=lag_ms)


def spoken(*known: Word) -> Final:
    return Final(utterance=0, text="x", words=known, start=0.0, end=2.0, confidence=1.0)


def example(reason: str = "silence") -> TimedEvents:
    """A stream that starts at 100 s on the clock."""
    one, two = word("ONE", 0.4, 0.8), word("TWO", 1.0, 1.4)
    events: list[tuple[float, Event]] = [
        (101.0, shown(word("ONE", 0.42, 0.76, False))),
        (101.5, shown(word("ONE", 0.42, 0.76), word("TOO", 1.0, 1.4, False), lag_ms=70.0)),
        (102.0, shown(word("ONE", 0.42, 0.76), word("TWO", 1.06, 1.44, False))),
        (102.4, spoken(one, two)),
        (102.5, SpeechEnded(utterance=0, end=1.9, reason=reason)),
    ]
    return TimedEvents(100.0, events)


def test_latencies_of_each_word_and_of_the_utterance():
    found = latencies(example(), since=0, until=1_000)
    assert found.shown == pytest.approx([0.2, 0.1])  # 101.0 - 100.8, 101.5 - 101.4
    assert found.right == pytest.approx([0.2, 0.6])  # TWO was TOO until 102.0
    assert found.committed == pytest.approx([0.7, 1.0])  # 101.5 - 100.8; TWO only with the final
    assert found.final == pytest.approx([1.6, 1.0])
    assert found.final_after_word == pytest.approx([1.0])
    assert found.final_after_end == pytest.approx([0.5])
    assert found.lag == pytest.approx([0.05, 0.07, 0.05])


def test_an_equal_word_at_another_time_is_another_word():
    timed = TimedEvents(
        0.0, [(1.0, shown(word("ONE", 0.1, 0.3))), (9.0, spoken(word("ONE", 5.0, 5.4))), (9.1, ended())]
    )
    assert latencies(timed, since=0, until=100).shown == pytest.approx([3.6])


def test_latencies_outside_the_measured_time_are_excluded():
    found = latencies(example(), since=101.0, until=102.0)  # ONE ended at 100.8
    assert found.final == pytest.approx([1.0])
    assert found.lag == pytest.approx([0.05, 0.07])
    assert latencies(example(), since=0, until=101.0).final_after_word == []


def test_an_utterance_cut_by_the_end_of_the_stream_is_excluded():
    assert latencies(example("end"), since=0, until=1_000).final == []


def test_reference_word_ends_replace_the_recognized_ones():
    found = latencies(example(), since=0, until=1_000, end_of=lambda word: word.end + 0.1)
    assert found.final == pytest.approx([1.5, 0.9])
    assert found.final_after_end == pytest.approx([0.5])


def test_latencies_of_several_streams_are_pooled():
    one, pooled = latencies(example(), since=0, until=1_000), Latencies()
    pooled.extend(one)
    pooled.extend(one)
    assert pooled.report()["final"]["count"] == 4
    assert percentiles([]) == {"count": 0}
    assert percentiles([1.0, 3.0]) == pytest.approx({"count": 2, "p50": 2, "p95": 2.9, "p99": 2.98, "max": 3})


# --- capacity


@given(limit=st.integers(0, 5_000), start=st.integers(1, 64), most=st.integers(1, 4_096))
@settings(deadline=None)
def test_the_search_finds_the_limit_within_a_sixteenth(limit: int, start: int, most: int):
    probed: list[int] = []

    def good(streams: int) -> bool:
        probed.append(streams)
        return streams <= limit

    best = search(good, start=start, most=most)
    limit = min(limit, most)
    assert best <= limit
    assert limit - best <= max(0, best // 16)
    assert len(probed) == len(set(probed)) <= 24
    assert all(1 <= streams <= most for streams in probed)


def test_errors_of_rare_words_are_counted_separately():
    reference, transcript = ["A", "RARE", "BIRD", "SANG", "AT", "DAWN"], ["A", "BEAR", "BIRD", "OWL", "SANG", "DAWN"]
    found = count_errors(reference, transcript, ["RARE", "DAWN"], ["OWL", "DAWN"])
    assert (found.rare, found.elsewhere, found.intruders) == (ErrorCount(1, 2), ErrorCount(2, 4), 1)
    assert count_errors([], ["OWL"], [], ["OWL"]) == (ErrorCount(0, 0), ErrorCount(1, 0), 1)
    assert count_errors([], [], [], []) == (ErrorCount(0, 0), ErrorCount(0, 0), 0)


def test_rare_words_are_unknown_or_least_likely_to_the_language_model(tmp_path: Path):
    model = language_model(tmp_path, Weights())
    assert rarest_words(["AB", "BAA", "BAA", "CAB", "ABBA", "A"], model, 3) == ["ABBA", "CAB", "BAA"]
    assert rarest_words(["AB", "AXE"], model, 2) == []  # too short, and outside the vocabulary
    assert distractors([["X", "Y"], ["Y"], [], ["Y"]], [["X"], ["Y"], [], ["Y"]]) == [[], ["X"], ["Y"], ["X"]]
    assert distractors([["X"]], [["X"]]) == [[]]
