"""Greedy CTC: equal to the tokenizer of transformers, for any split of the rows."""

from __future__ import annotations

import json
from math import exp
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Wav2Vec2CTCTokenizer
from xlsr_live.streaming.ctc.greedy import DecodedWord, GreedyDecoder, confidence, decode
from xlsr_live.streaming.ctc.vocabulary import Vocabulary
from xlsr_live.streaming.model.tokens import read_vocabulary

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
KINDS = {
    "characters": ([*SPECIAL, "|", *"ABC'"], {}),
    "sub-words": ([*SPECIAL, "|", "TH", "E", "ING", "S", "A"], {}),
    "no delimiter": ([*SPECIAL, "你", "好", "吗", "ts"], {}),
    "lower case": ([*SPECIAL, "|", *"ABÄ"], {"do_lower_case": True}),
    "blank at the end": (["|", *"abc", "<unk>", "<s>", "</s>", "<pad>"], {}),
    "a space as delimiter": ([*SPECIAL, " ", *"abc"], {"word_delimiter_token": " "}),
}


@pytest.fixture(scope="session", params=list(KINDS))
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Wav2Vec2CTCTokenizer:
    tokens, options = KINDS[request.param]
    path = Path(tmp_path_factory.mktemp("vocabulary")) / "vocab.json"
    path.write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    return Wav2Vec2CTCTokenizer(str(path), **options)


def rows_of(tokens: list[int], size: int, seed: int = 0) -> np.ndarray:
    """Log-probabilities, (frames, size), whose best tokens are `tokens`."""
    logits = np.random.default_rng(seed).uniform(0, 1, (len(tokens), size))
    logits[np.arange(len(tokens)), tokens] += 1.5
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


runs = st.lists(st.tuples(st.integers(0, 8), st.integers(1, 3)), max_size=25)


def spelled(runs: list[tuple[int, int]], size: int) -> list[int]:
    return [token % size for token, count in runs for _ in range(count)]


@given(runs)
@settings(max_examples=60, deadline=None)
def test_the_text_equals_that_of_the_tokenizer(tokenizer: Wav2Vec2CTCTokenizer, runs: list[tuple[int, int]]):
    size = len(tokenizer)
    # Transformers and this project treat special tokens other than the blank differently within speech.
    never = set(tokenizer.convert_tokens_to_ids(["<s>", "</s>", "<unk>"]))
    tokens = [token for token in spelled(runs, size) if token not in never]
    vocabulary = read_vocabulary(tokenizer, size)
    ours = vocabulary.join(word.text for word in decode(rows_of(tokens, size), vocabulary))
    assert ours == " ".join(tokenizer.decode(tokens).split())


CHARACTERS = Vocabulary.from_tokens(["<pad>", "|", *"ABCDEFG"], blank=0)
UNITS = Vocabulary.from_tokens(["<pad>", *"abcdefgh"], blank=0, delimiter=None)
PIECES = Vocabulary((" a", "b ", "c", " ", "d", "", "f", "g", "h"), blank=5)  # boundaries within tokens
vocabularies = st.sampled_from([CHARACTERS, UNITS, PIECES])
cuts = st.lists(st.integers(0, 5), max_size=30)


@pytest.mark.parametrize(("pause", "text"), [(1, "AB"), (49, "AB"), (50, "A B"), (250, "A B")])
@pytest.mark.parametrize("packet", [1, 7, 49, 50, 300])
def test_a_second_of_blanks_ends_a_word_even_without_a_boundary(pause: int, text: str, packet: int):
    rows = rows_of([2, *[0] * pause, 3, 1], len(CHARACTERS))
    decoder = GreedyDecoder(CHARACTERS)
    for at in range(0, len(rows), packet):
        decoder.push(rows[at : at + packet])
    decoder.finish()
    assert CHARACTERS.join(word.text for word in decoder.words) == text
    assert decoder.words == decode(rows, CHARACTERS)


@given(vocabularies, runs, cuts, st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_any_split_of_the_rows_gives_the_words_of_the_whole(vocabulary, runs, cuts, seed):
    rows = rows_of(spelled(runs, len(vocabulary)), len(vocabulary), seed)
    decoder = GreedyDecoder(vocabulary)
    at = 0
    for cut in [*cuts, len(rows)]:
        before = list(decoder.words)
        decoder.push(rows[at : at + cut])
        at += cut
        assert decoder.frame == min(at, len(rows))
        assert decoder.words[: len(before)] == before
    decoder.finish()
    assert decoder.words == decode(rows, vocabulary)


@given(vocabularies, runs, st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=200, deadline=None)
def test_a_tail_equals_the_words_that_would_follow_and_changes_nothing(vocabulary, runs, cut, end):
    rows = rows_of(spelled(runs, len(vocabulary)), len(vocabulary))
    decoder = GreedyDecoder(vocabulary)
    decoder.push(rows[:cut])
    assert [*decoder.words, *decoder.tail(rows[cut : cut + end])] == decode(rows[: cut + end], vocabulary)
    assert [*decoder.words, *decoder.pending()] == decode(rows[:cut], vocabulary)
    decoder.push(rows[cut:])
    decoder.finish()
    assert decoder.words == decode(rows, vocabulary)


@given(vocabularies, runs)
@settings(max_examples=200, deadline=None)
def test_words_are_in_order_within_the_frames(vocabulary, runs):
    rows = rows_of(spelled(runs, len(vocabulary)), len(vocabulary))
    at = 0
    for word in decode(rows, vocabulary):
        assert at <= word.start < word.end <= len(rows)
        assert word.text
        assert word.text == word.text.strip()
        assert 0 < word.confidence <= 1
        at = word.end


def test_times_are_the_frames_of_the_tokens_and_repeats_need_a_blank():
    tokens = [0, 0, 2, 2, 0, 3, 1, 1, 0, 4, 0, 4, 4, 1, 0]
    words = decode(rows_of(tokens, 9), CHARACTERS)
    assert [(word.text, word.start, word.end, word.tokens) for word in words] == [("AB", 2, 6, 2), ("CC", 9, 13, 2)]


def test_a_word_without_its_boundary_is_not_complete():
    decoder = GreedyDecoder(CHARACTERS)
    decoder.push(rows_of([2, 1, 3, 0], 9))
    assert [word.text for word in decoder.words] == ["A"]
    assert [word.text for word in decoder.pending()] == ["B"]
    assert [word.text for word in decoder.tail(rows_of([3], 9))] == ["BB"]


def test_without_boundaries_a_token_is_a_word_once_the_next_one_arrives():
    decoder = GreedyDecoder(UNITS)
    decoder.push(rows_of([1, 1, 2, 2], 9))
    assert [word.text for word in decoder.words] == ["a"]
    assert UNITS.join(word.text for word in decode(rows_of([1, 2, 2, 0, 2], 9), UNITS)) == "abb"


def test_confidence_is_the_geometric_mean_of_the_best_frames_of_the_tokens():
    best = np.log([0.5, 0.9, 0.6, 0.4])
    rows = np.full((4, 9), -9.0, np.float32)
    rows[np.arange(4), [2, 2, 0, 3]] = best
    (word,) = decode(rows, CHARACTERS)
    assert word.confidence == pytest.approx((0.9 * 0.4) ** 0.5)
    other = DecodedWord("X", 5, 6, float(np.log(0.1)), 1)
    assert confidence([word, other]) == pytest.approx((0.9 * 0.4 * 0.1) ** (1 / 3))
    assert confidence([]) == 0.0
    assert exp(word.score) == pytest.approx(0.36)


def test_blanks_and_boundaries_are_no_word():
    assert decode(rows_of([0, 1, 0, 1, 1], 9), CHARACTERS) == []
    assert decode(np.zeros((0, 9), np.float32), CHARACTERS) == []


def test_a_blank_outside_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match="blank 9"):
        Vocabulary(("a", "b"), blank=9)


def test_special_tokens_and_the_blank_have_no_text_and_the_delimiter_ends_words():
    vocabulary = Vocabulary.from_tokens(["<pad>", "<s>", "|", "É"], blank=0, silent=["<s>"], lower=True)
    assert vocabulary.texts == ("", "", " ", "é")
    assert (vocabulary.separator, len(vocabulary)) == (" ", 4)
    assert Vocabulary.from_tokens(["<pad>", "é"], blank=0).separator == ""
