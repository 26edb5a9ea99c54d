"""The n-gram of the transcripts: probabilities that sum to one, read by the recognizer's own reader."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from xlsr_live.streaming.ctc.arpa import find_fault, read_arpa
from xlsr_live.streaming.ctc.lm import LanguageModel, find_in_checkpoint
from xlsr_live.streaming.ctc.vocabulary import Vocabulary
from xlsr_live.training.ngram import write_ngram

TEXTS = ["TURN THE LIGHT ON", "TURN THE LIGHT OFF", "TURN ON", "THE LIGHT IS ON", "IS THE RADIO ON", "RADIO"] * 3
WORDS = sorted({word for text in TEXTS for word in text.split()})


def score(lines: dict[tuple[str, ...], tuple[float, float]], context: tuple[str, ...], word: str) -> float:
    """log10 P(word | context) by the rule of ARPA files."""
    if (gram := (*context, word)) in lines:
        return lines[gram][0]
    return lines.get(context, (0.0, 0.0))[1] + score(lines, context[1:], word)


def grams(path: Path) -> dict[tuple[str, ...], tuple[float, float]]:
    found = {}
    for line in path.read_text().splitlines():
        if "\t" in line:
            probability, words, *backoff = line.split("\t")
            found[tuple(words.split())] = float(probability), float(backoff[0]) if backoff else 0.0
    return found


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_every_context_has_probabilities_that_sum_to_one(order: int, tmp_path: Path):
    lines = grams(write_ngram(TEXTS, tmp_path, order))
    contexts = [(), *((word,) for word in (*WORDS, "<s>")), *product((*WORDS, "<s>"), WORDS)]
    for context in contexts[: None if order > 1 else 1]:
        total = sum(
            10 ** score(lines, context[max(0, len(context) - order + 1) :], w) for w in (*WORDS, "</s>", "<unk>")
        )
        assert total == pytest.approx(1, abs=1e-3), context


def test_what_is_said_often_is_likely(tmp_path: Path):
    lines = grams(write_ngram(TEXTS, tmp_path))
    assert score(lines, ("TURN", "THE"), "LIGHT") > score(lines, ("TURN", "THE"), "RADIO")
    assert score(lines, ("<s>",), "TURN") > score(lines, ("<s>",), "OFF")


def test_the_recognizer_finds_and_reads_it(tmp_path: Path):
    path = write_ngram(TEXTS, tmp_path)
    assert find_fault(path) is None
    ngram, lines = read_arpa(path), grams(path)
    for word in WORDS:
        assert np.isclose(ngram.scores[ngram.numbers[word]], lines[(word,)][0])
    files = find_in_checkpoint(tmp_path)
    assert files is not None
    model = LanguageModel(files, Vocabulary(("", " ", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 0))
    assert model.words == len(WORDS)
