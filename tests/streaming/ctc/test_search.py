"""The beam search: boosts, forks, splits, settled words; and the trie of spellings."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.ctc.beam import BeamDecoder
from xlsr_live.streaming.ctc.boosts import NO_BOOSTS
from xlsr_live.streaming.ctc.greedy import GreedyDecoder
from xlsr_live.streaming.ctc.lm import Files, LanguageModel, Weights
from xlsr_live.streaming.ctc.search import Search, Trace
from xlsr_live.streaming.ctc.trie import Trie

from tests.support.ngrams import VOCABULARY, language_model, score

WORDS = ["A", "B", "AB", "BAA"]
EVERYTHING = Weights(1.5, 0.5, beam=5000, tokens=5, threshold=1e6, token_threshold=1e6, sure_blank=1.0, unknown=2.0)
USUAL = Weights(lm=1.5, word=0.5, beam=12, tokens=4, threshold=10.0, token_threshold=6.0, unknown=2.0)
PHRASES = {"AB": 1.0, "AB BAA": 1.5, "B A": 0.75, "BAA": 0.5}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return language_model(tmp_path_factory.mktemp("lm"), EVERYTHING)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return language_model(tmp_path_factory.mktemp("lm"), USUAL)


def random_rows(frames: int, seed: int, heat: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, heat, (frames, len(VOCABULARY)))
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def traces(search: Search) -> list[tuple[float, list[int]]]:
    return [(trace.score, trace.tokens.tolist()) for trace in search.traces()]


def written(words: list[str]) -> list[int]:
    return [token for word in words for token in (*("|ABC".index(letter) + 1 for letter in word), 1)]


@pytest.mark.parametrize(("probability", "begins"), [(0.97, True), (0.99, False)])
def test_no_token_begins_at_a_sure_blank(everything: LanguageModel, probability: float, begins: bool):
    rows = random_rows(5, 1)
    rows[3] = np.log((1 - probability) / (rows.shape[1] - 1))
    rows[3, VOCABULARY.blank] = np.log(probability)
    weights = replace(EVERYTHING, sure_blank=0.98)
    search = Search(everything.ngram, everything.trie, weights, everything.boundary, VOCABULARY.blank, NO_BOOSTS)
    search.step(rows)
    paths = [trace.tokens.tolist() for trace in search.traces()]
    assert any(path[3] not in (VOCABULARY.blank, path[2]) for path in paths) == begins


# ── boosts ──


def worth(words: list[str]) -> float:
    """The boost of the phrases in a text by definition; a longer phrase adds only its new part."""
    total = 0.0
    for at, word in enumerate(words):
        pair = " ".join(words[at : at + 2])
        if word == "AB":
            total += 1.0 * 2
        if word == "BAA" and " ".join(words[max(0, at - 1) : at + 1]) != "AB BAA":
            total += 0.5 * 3
        if pair == "AB BAA":
            total += 1.5 * 5 - 1.0 * 2
        if pair == "B A":
            total += 0.75 * 2
    return total


@given(st.lists(st.sampled_from(WORDS), max_size=12))
@settings(max_examples=300, deadline=None)
def test_boosts_equal_the_weights_of_complete_phrases(everything: LanguageModel, words: list[str]):
    boosts = everything.boosted(PHRASES).boosts
    assert boosts.worth(written(words)) == pytest.approx(worth(words))


@pytest.mark.parametrize("seed", range(4))
def test_with_boosts_the_best_hypothesis_is_the_best_of_all_paths(everything: LanguageModel, seed: int):
    rows = random_rows(6, seed)
    best = -np.inf
    for path in product(range(4), repeat=len(rows)):  # no word has a C
        decoder = GreedyDecoder(VOCABULARY)
        decoder.push(rows, np.array(path))
        decoder.finish()
        words = [word.text for word in decoder.words]
        if set(words) <= set(WORDS):
            acoustic = float(rows[np.arange(len(path)), path].sum())
            best = max(best, acoustic + 1.5 * score(words) + 0.5 * len(words) + worth(words))
    search = everything.search(everything.boosted(PHRASES))
    search.step(rows)
    assert next(search.traces()).score == pytest.approx(best, abs=1e-3)


def test_a_boosted_word_that_the_lexicon_lacks_is_found(usual: LanguageModel):
    rows = random_rows(9, 3)
    for frame, token in enumerate([2, 0, 4, 0, 3, 0, 1, 0, 0]):  # A C B
        rows[frame, token] = max(rows[frame]) + 1
    for phrases, wanted in (({}, False), ({"acb": 4.0}, True)):
        decoder = BeamDecoder(usual, phrases=usual.boosted(phrases))
        decoder.push(rows)
        decoder.finish()
        assert ("ACB" in [word.text for word in decoder.words]) == wanted
    assert usual.lacks((2, 4, 3))


@pytest.fixture(scope="module")
def unigrams(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    path = tmp_path_factory.mktemp("lm") / "unigrams.arpa"
    scores = {"<unk>": -2.5, "<s>": -99, "</s>": -1, "A": -0.5, "B": -0.9, "AB": -0.7, "BAA": -1.6}
    lines = ["\\data\\", f"ngram 1={len(scores)}", "\\1-grams:", *(f"{scores[word]} {word}" for word in scores)]
    path.write_text("\n".join([*lines, "\\end\\"]))
    return LanguageModel(Files(path, None, None, EVERYTHING), VOCABULARY)


@given(st.integers(0, 7), st.integers(0, 10_000))
@example(cut=6, seed=15)  # at the cut, "A B" and "AB" differ only in what they may still earn
@settings(max_examples=60, deadline=None)
def test_new_phrases_take_back_the_boost_of_incomplete_ones(unigrams: LanguageModel, cut: int, seed: int):
    """No path completes the phrase before the cut, so the search equals one that never had it."""
    rows = random_rows(10, seed)
    search, plain = unigrams.search(unigrams.boosted({"AB BAA": 2.0})), unigrams.search()
    search.step(rows[:cut])
    plain.step(rows[:cut])
    search.change(NO_BOOSTS)
    search.step(rows[cut:])
    plain.step(rows[cut:])
    found, wanted = traces(search), traces(plain)
    assert [score for score, _ in found] == pytest.approx([score for score, _ in wanted])
    assert found[0][1] == wanted[0][1]


# ── any split, and forks ──

cuts = st.lists(st.integers(0, 9), max_size=12)


@given(st.integers(0, 60), st.integers(0, 10_000), st.floats(0.5, 5), cuts, st.booleans())
@settings(max_examples=60, deadline=None)
def test_splits_and_forks_change_nothing_bit_for_bit(
    usual: LanguageModel, frames: int, seed: int, heat: float, cuts: list[int], merged: bool
):
    rows = random_rows(frames, seed, heat)
    phrases = usual.boosted({"AB": 0.5, "ABC": 1.0})
    whole, parts = (usual.search(phrases, merged=merged) for _ in range(2))
    whole.step(rows)
    at = 0
    for cut in [*cuts, frames]:
        parts.step(rows[at : at + cut])
        at += cut
        fork = parts.fork()
        fork.step(random_rows(5, seed + 1))  # contexts that the search does not reach
        fork.extend(usual.unknown_words([(4, 4)]))
        fork.settle(1.0, 3)
        next(fork.traces())
    assert traces(parts) == traces(whole)


def test_equal_rows_give_equal_results(usual: LanguageModel):
    """Every score is tied."""
    rows = np.full((30, len(VOCABULARY)), -np.log(5), np.float32)
    whole, parts = usual.search(), usual.search()
    whole.step(rows)
    for at in range(30):
        parts.step(rows[at : at + 1])
        parts.fork().step(rows[::-1])
    assert traces(parts) == traces(whole)


# ── settled words ──


@given(st.integers(1, 120), st.integers(0, 10_000), st.floats(2, 8))
@settings(max_examples=60, deadline=None)
def test_words_shared_by_all_hypotheses_are_in_every_later_one(
    usual: LanguageModel, frames: int, seed: int, heat: float
):
    rows = random_rows(frames, seed, heat)
    kept, settling = usual.search(), usual.search()
    settled: list[int] = []
    for row in np.split(rows, frames):
        kept.step(row)
        settling.step(row)
        settled += settling.settle(np.inf, 10_000).tolist()
        assert settling.settled == len(settled)
    assert [(each, [*settled, *tokens]) for each, tokens in traces(settling)] == traces(kept)


@given(st.integers(1, 200), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_no_word_stays_open_longer_than_the_look_back(usual: LanguageModel, frames: int, seed: int):
    search = usual.search()
    rows = random_rows(frames, seed, 6.0)
    rows[7::8, 1] = rows.max() + 5  # a boundary now and then
    for at, row in enumerate(np.split(rows, frames)):
        search.step(row)
        path = search.settle(np.inf, 20)
        assert not len(path) or path[-1] == 1  # up to a boundary
        assert at - search.settled < 40
    assert isinstance(next(search.traces()), Trace)


# ── spellings ──

spellings = st.lists(st.lists(st.integers(2, 5), min_size=1, max_size=5).map(tuple), min_size=1, max_size=20)


@given(spellings, spellings)
@settings(max_examples=100, deadline=None)
def test_a_trie_finds_exactly_its_words(some: list[tuple[int, ...]], others: list[tuple[int, ...]]):
    def build(words: list[tuple[int, ...]], first: int) -> Trie:
        labels = np.arange(first, first + len(words), dtype=np.int32)
        return Trie.build(words, labels, -np.sqrt(labels + 1).astype(np.float32), 1)

    one, both = build(some, 0), build(some, 0).with_words(build(others, len(some)))
    for trie, words in ((one, some), (both, [*some, *others])):
        for spelling in {*some, *others, (9,), (2, 9), (2,) * 9}:
            assert sorted(trie.find(spelling)) == [at for at, word in enumerate(words) if word == spelling]
    kept = [*both.token[: both.size]]
    both.with_words(build([(3, 3, 3)], 100))
    again = both.with_words(build([(5, 5)], 101))  # must not change the other trie
    assert again.find((5, 5))[-1] == 101
    assert 100 not in again.find((3, 3, 3))
    assert [*both.token[: both.size]] == kept
    for node in range(len(both)):
        children = range(both.first[node], both.first[node] + both.count[node])
        known = [both.best[child] for child in children]
        if both.label[node] >= 0:
            known.append(np.float32(-np.sqrt(both.label[node] + 1)))
        assert both.best[node] == pytest.approx(max(known))
        for child in children:
            before = 0 if node in (0, *both.roots) else both.best[node]
            assert both.step[child] == pytest.approx(both.best[child] - before, abs=1e-6)
