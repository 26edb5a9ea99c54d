"""Scores of n-grams: an ARPA file equals the definition of back-off, and KenLM binaries equal the ARPA file."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.ctc.arpa import read_arpa
from xlsr_live.streaming.ctc.kenlm import read_kenlm
from xlsr_live.streaming.ctc.ngram import Contexts, Ngram
from xlsr_live.streaming.errors import LanguageModelError

FOLDER = Path(__file__).parent / "kenlm"  # made from words.arpa by KenLM's build_binary
ARPA = FOLDER / "words.arpa"
EXACT = ["probing", "trie", "compressed"]


@cache
def ngrams() -> dict[tuple[str, ...], tuple[float, float]]:
    """log10 probabilities and back-off weights."""
    found: dict[tuple[str, ...], tuple[float, float]] = {}
    for line in ARPA.read_text().splitlines():
        score, _, rest = line.partition("\t")
        if rest:
            words, _, backoff = rest.partition("\t")
            found[tuple(words.split())] = float(score), float(backoff or 0)
    return found


def score(words: tuple[str, ...]) -> float:
    """log10 probability of the last word after the others, by definition."""
    if words in ngrams():
        return ngrams()[words][0]
    if len(words) == 1:
        return ngrams()["<unk>",][0]
    return ngrams().get(words[:-1], (0.0, 0.0))[1] + score(words[1:])


@cache
def read(name: str) -> Ngram:
    return read_arpa(ARPA) if name == "arpa" else read_kenlm(FOLDER / f"{name}.binary")


def follow(ngram: Ngram, context: Contexts, word: str) -> tuple[float, Contexts]:
    """log10 probability of one word after one context, and the next context."""
    scores, after = ngram.score(context, np.array([ngram.numbers.get(word, 0)]))
    return float(scores[0]), after


WORDS = sorted({word for words in ngrams() for word in words} - {"<s>", "</s>", "<unk>"})
sentences = st.lists(st.sampled_from([*WORDS, "NEVER"]), max_size=12)
# Word sequences of the model, so that long n-grams match.
known = st.lists(st.sampled_from(sorted(each for each in ngrams() if len(each) == 4)), max_size=4).map(
    lambda chosen: [word for each in chosen for word in each if word in WORDS]
)


@pytest.mark.parametrize("name", ["arpa", *EXACT])
@given(sentence=st.one_of(sentences, known))
@settings(max_examples=200, deadline=None)
def test_scores_equal_the_definition(name: str, sentence: list[str]):
    ngram, context = read(name), read(name).start
    history = ["<s>"]
    for word in [*sentence, "</s>"]:
        found, context = follow(ngram, context, word)
        history.append(word if (word,) in ngrams() else "<unk>")
        assert found == pytest.approx(score(tuple(history[-4:])), abs=1e-4)


@pytest.mark.parametrize("name", ["arpa", "probing", "trie", "quantised", "compressed", "both"])
@given(pairs=st.lists(st.tuples(known, st.sampled_from([*WORDS, "NEVER", "</s>"])), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_words_looked_up_together_score_as_each_alone(name: str, pairs: list[tuple[list[str], str]]):
    ngram, contexts = read(name), []
    for sentence, _ in pairs:
        context = read(name).start
        for word in sentence:
            context = follow(ngram, context, word)[1]
        contexts.append(context)
    together = Contexts(*(np.concatenate(columns) for columns in zip(*contexts, strict=True)))
    scores, after = ngram.score(together, np.array([ngram.numbers.get(word, 0) for _, word in pairs]))
    for at, (context, (_, word)) in enumerate(zip(contexts, pairs, strict=True)):
        score, alone = follow(ngram, context, word)
        assert scores[at] == score
        assert [column[at].tobytes() for column in after] == [column.tobytes() for column in alone]


def test_a_probing_binary_does_not_count_the_unknown_word_that_it_adds():
    binary, arpa = read("no_unknown"), read_arpa(FOLDER / "no_unknown.arpa")
    assert sorted(binary.words) == sorted(arpa.words)
    contexts = binary.start, arpa.start
    for word in ["B", "NEVER", "A", "AB", "B", "</s>"]:
        (found, one), (wanted, other) = (
            follow(ngram, context, word) for ngram, context in zip((binary, arpa), contexts, strict=True)
        )
        assert found == pytest.approx(wanted)
        contexts = one, other


@pytest.mark.parametrize("name", ["quantised", "both"])
@given(sentence=st.one_of(sentences, known))
@settings(max_examples=100, deadline=None)
def test_quantised_scores_are_close(name: str, sentence: list[str]):
    ngram, context = read(name), read(name).start
    exact = read("arpa").start
    for word in sentence:
        found, context = follow(ngram, context, word)
        wanted, exact = follow(read("arpa"), exact, word)
        assert found == pytest.approx(wanted, abs=1.2)  # 16 or 64 values of 0 to -4


def test_both_kinds_of_quantised_tries_share_their_words():
    assert read("both").words == read("quantised").words == read("trie").words
    assert sorted(read("arpa").words) == sorted(read("probing").words)


def test_equal_contexts_have_equal_scores():
    """Words beyond a context do not change scores, so a search may merge hypotheses."""
    ngram = read("arpa")
    contexts: dict[object, tuple[str, ...]] = {}
    for words in ngrams():
        context = ngram.nothing
        for word in words:
            context = follow(ngram, context, word)[1]
        other = contexts.setdefault(context.words.tobytes(), words)
        for after in WORDS[::5]:
            assert score((*words, after)[-4:]) == pytest.approx(score((*other, after)[-4:]), abs=1e-6)
    assert len(contexts) < len(ngrams())


@pytest.mark.parametrize("name", ["probing", "trie", "quantised", "compressed", "both"])
def test_a_binary_that_is_cut_off_is_refused_in_one_sentence(name: str, tmp_path: Path):
    whole = (FOLDER / f"{name}.binary").read_bytes()
    for end in range(1, len(whole) - 1, 97):
        (tmp_path / "part").write_bytes(whole[:end])
        with pytest.raises(LanguageModelError) as raised:
            read_kenlm(tmp_path / "part")
        assert "\n" not in str(raised.value)


def test_unsupported_binaries_are_refused_with_a_remedy(tmp_path: Path):
    whole = bytearray((FOLDER / "trie.binary").read_bytes())
    for at, value, why in (
        (49, ord("4"), "another version"),
        (96, 1, "another version or kind"),
        (100, 0, "its words"),
    ):
        changed = whole.copy()
        changed[at] = value
        (tmp_path / "other").write_bytes(changed)
        with pytest.raises(LanguageModelError, match=f"{why}.* build it again .*build_binary"):
            read_kenlm(tmp_path / "other")


def test_contexts_are_as_long_as_the_model_needs():
    ngram = read("arpa")
    longest = next(words for words in ngrams() if len(words) == 4 and words[0] != "<s>")
    context = ngram.start
    for length, word in enumerate(longest[:3], 1):
        context = follow(ngram, context, word)[1]
        assert (context.words != ngram.none).sum() >= length
    assert (context.words != ngram.none).sum() == 3
    lengths = [len(words) for words in ngrams()]
    assert np.array([one <= other for one, other in pairwise(lengths)]).all()
