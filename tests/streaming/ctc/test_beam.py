"""Beam search: equal to the search of all paths, for any split of the rows."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.ctc.beam import BeamDecoder, decode_beam
from xlsr_live.streaming.ctc.greedy import GreedyDecoder, decode
from xlsr_live.streaming.ctc.lm import LanguageModel, Weights

from tests.support.ngrams import VOCABULARY, language_model, score

WORDS = {"A", "B", "AB", "BAA"}
EVERYTHING = Weights(lm=1.5, word=0.5, beam=5000, tokens=5, threshold=1e6, token_threshold=1e6, unknown=2.0)
WIDE = Weights(lm=1.5, word=0.5, beam=100, tokens=5, threshold=25.0, unknown=2.0)
USUAL = Weights(lm=1.5, word=0.5, beam=20, tokens=5, threshold=12.0, unknown=0.6)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return language_model(tmp_path_factory.mktemp("lm"), EVERYTHING)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return language_model(tmp_path_factory.mktemp("lm"), WIDE)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return language_model(tmp_path_factory.mktemp("lm"), USUAL)


def random_rows(frames: int, seed: int, heat: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, heat, (frames, len(VOCABULARY)))
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def spoken(path: str, seed: int = 0, heat: float = 4.0) -> np.ndarray:
    """Rows whose best tokens are those of the path: `.` is the blank."""
    rows = np.random.default_rng(seed).uniform(0, 1, (len(path), len(VOCABULARY)))
    rows[np.arange(len(path)), [".|ABC".index(token) for token in path]] += heat
    return (rows - np.log(np.exp(rows).sum(1, keepdims=True))).astype(np.float32)


def best_of_all(rows: np.ndarray, weights: Weights) -> tuple[float, list[str]]:
    best = (-np.inf, [""])
    for path in product(range(len(VOCABULARY)), repeat=len(rows)):
        if 4 in path:  # no word has a C
            continue
        decoder = GreedyDecoder(VOCABULARY)
        decoder.push(rows, np.array(path))
        decoder.finish()
        words = [word.text for word in decoder.words]
        if set(words) <= WORDS:
            acoustic = float(rows[np.arange(len(path)), path].sum())
            best = max(best, (acoustic + weights.lm * score(words) + weights.word * len(words), words))
    return best


@pytest.mark.parametrize("seed", range(6))
def test_the_best_hypothesis_is_the_best_of_all_paths(everything: LanguageModel, seed: int):
    rows = random_rows(6, seed)
    found = decode_beam(rows, everything)
    wanted, words = best_of_all(rows, EVERYTHING)
    assert found[0].score == pytest.approx(wanted, abs=1e-3)
    assert [word.text for word in found[0].words] == words


@given(st.integers(1, 120), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_hypotheses_are_distinct_sorted_and_their_scores_add_up(usual: LanguageModel, frames: int, seed: int):
    hypotheses = decode_beam(random_rows(frames, seed), usual, 100)
    texts = [tuple(word.text for word in hypothesis.words) for hypothesis in hypotheses]
    assert len(set(texts)) == len(texts)
    scores = [hypothesis.score for hypothesis in hypotheses]
    assert scores == sorted(scores, reverse=True)
    for hypothesis in hypotheses:
        parts = hypothesis.acoustic + USUAL.lm * hypothesis.language + USUAL.word * len(hypothesis.words)
        assert hypothesis.score == pytest.approx(parts, abs=1e-2)
        at = 0
        for word in hypothesis.words:
            assert at <= word.start < word.end <= frames
            assert 0 < word.confidence <= 1
            at = word.end


def test_words_that_the_ngram_lacks_are_alternatives_to_each_other(tmp_path: Path):
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("A A |\nC C |\nAC A C |\nCA C A |\n")
    model = language_model(tmp_path, WIDE, lexicon=lexicon)
    found = decode_beam(spoken("C.A|A|", heat=2), model, 100)
    texts = {" ".join(word.text for word in hypothesis.words) for hypothesis in found}
    assert {"CA A", "AC A", "C A"} <= texts


cuts = st.lists(st.integers(0, 40), max_size=20)


@given(st.integers(0, 300), st.integers(0, 10_000), st.floats(2, 5), cuts, st.sampled_from([None, 10, 30]))
@example(frames=96, seed=174, heat=2.0, cuts=[], look_back=10)  # only hypotheses within a word are left
@settings(max_examples=40, deadline=None)
def test_any_split_gives_the_hypotheses_of_the_whole(
    usual: LanguageModel, frames: int, seed: int, heat: float, cuts, look_back: int | None
):
    rows = random_rows(frames, seed, heat)
    decoder = BeamDecoder(usual, look_back=look_back)
    at = 0
    for cut in [*cuts, len(rows)]:
        before = list(decoder.words)
        decoder.push(rows[at : at + cut])
        at += cut
        assert decoder.words[: len(before)] == before
        if len(rows) < 100:
            decoder.tail(rows[at : at + 10])  # changes nothing
    complete = list(decoder.words)
    decoder.finish()
    assert decoder.words[: len(complete)] == complete
    whole = BeamDecoder(usual, look_back=look_back)
    whole.push(rows)
    whole.finish()
    assert decoder.words == whole.words
    if look_back is None:
        assert decoder.alternatives(5) == whole.alternatives(5)


def test_with_a_look_back_words_become_complete_during_the_utterance(wide: LanguageModel):
    rows = spoken("A.B.||B|.A||.B.A.A|" * 40)
    decoder = BeamDecoder(wide, look_back=30)
    longest = 0
    for at in range(0, len(rows), 20):
        decoder.push(rows[at : at + 20])
        longest = max(longest, len(decoder._rows))
    assert longest < 30 + 100 + 40
    complete = len(decoder.words)
    decoder.finish()
    assert [word.text for word in decoder.words] == ["AB", "B", "A", "BAA"] * 40
    assert 0.7 * 160 < complete < 160


@pytest.mark.parametrize("cut", range(0, 190, 19))
def test_a_tail_equals_the_words_that_would_follow(wide: LanguageModel, cut: int):
    rows = spoken("A.B.||B|.A||.B.A.A|" * 10)
    decoder = BeamDecoder(wide, look_back=20)
    decoder.push(rows[:cut])
    before = list(decoder.words)
    whole = decode_beam(rows[: cut + 30], wide)[0].words
    assert (*decoder.words, *decoder.tail(rows[cut : cut + 30])) == whole
    assert decoder.words == before
    assert (*decoder.words, *decoder.pending()) == decode_beam(rows[:cut], wide)[0].words
    assert len(before) >= len(decode(rows[:cut], VOCABULARY)) - 3  # complete once every likely hypothesis has them


def test_the_language_model_decides_between_similar_words(usual: LanguageModel):
    rows = spoken("A|")
    rows[0, [2, 3]] = np.log([0.5, 0.4])
    assert [word.text for word in decode(rows, VOCABULARY)] == ["A"]
    assert [word.text for word in decode_beam(rows, usual)[0].words] == ["B"]  # more often at the start of a sentence


def test_a_word_outside_the_lexicon_keeps_its_greedy_spelling_if_confident(usual: LanguageModel):
    words = decode_beam(spoken("A|.C.B.A|B|", heat=8), usual)[0].words
    assert [(word.text, word.start, word.end) for word in words] == [("A", 0, 1), ("CBA", 3, 8), ("B", 9, 10)]
    doubtful = decode_beam(spoken("A|.C.B.A|B|", heat=1), usual)[0].words
    assert {word.text for word in doubtful} <= WORDS
    assert usual.lacks(usual.spell("CBA") or ())
    again = decode_beam(spoken("A|.C.B.A|B|", heat=1), usual)[0].words
    assert again == doubtful  # words of one utterance do not leak into the next


@pytest.mark.parametrize("look_back", [None, 30])
@pytest.mark.parametrize("heat", [4.0, 12.0])
def test_a_long_pause_without_a_boundary_ends_a_word(wide: LanguageModel, heat: float, look_back: int | None):
    rows = spoken("A.B" + "." * 60 + "B.A.A|", heat=heat)
    assert [word.text for word in decode(rows, VOCABULARY)] == ["AB", "BAA"]
    for step in (1, 7, len(rows)):
        decoder = BeamDecoder(wide, look_back=look_back)
        for at in range(0, len(rows), step):
            decoder.push(rows[at : at + step])
            decoder.tail(rows[at + step : at + 60])  # changes nothing
        decoder.finish()
        assert [word.text for word in decoder.words] == ["AB", "BAA"]


def test_blanks_are_no_word(usual: LanguageModel):
    for rows in (np.zeros((0, len(VOCABULARY)), np.float32), spoken("." * 30), spoken("|.|.||")):
        (best, *_) = decode_beam(rows, usual)
        assert best.words == ()
    assert BeamDecoder(usual).pending() == []
