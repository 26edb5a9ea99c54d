"""Error rates: reference and hypothesis brought to one form, counted, with confidence intervals.

Both texts are written as the vocabulary can write them: in its case (upper, lower, or as they are where the vocabulary
has both), curly apostrophes made straight, and whatever is neither a letter nor a digit nor in the vocabulary made a
blank space (an apostrophe: nothing). Letters and digits that the vocabulary lacks stay, and count as errors: the model
cannot write them, and hiding that would flatter it. In a vocabulary without word boundaries every character is a word.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final, NamedTuple

import jiwer
import numpy as np

from ...streaming.ctc.vocabulary import Vocabulary

RESAMPLES: Final = 1_000
_APOSTROPHES: Final = str.maketrans(dict.fromkeys("’‘ʼ`", "'"))


class Score(NamedTuple):
    errors: int  # insertions, deletions and substitutions
    length: int  # of the reference


class Spelling:
    """The one form for one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._known = set("".join(vocabulary.texts))
        self._separator = vocabulary.separator
        upper, lower = (any(test(c) for c in self._known) for test in (str.isupper, str.islower))
        self.case = "upper" if upper and not lower else "lower" if lower and not upper else "as it is"

    def __call__(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text).translate(_APOSTROPHES)
        text = text.upper() if self.case == "upper" else text.lower() if self.case == "lower" else text
        return self._separator.join("".join(self._written(c) for c in text).split())

    def lacking(self, text: str) -> set[str]:
        """Characters of the text in that form that the vocabulary cannot write."""
        return set(self(text)) - self._known - {" "}

    def words(self, text: str) -> list[str]:
        """The units of the word error rate."""
        return self(text).split() if self._separator else list(self(text))

    def score(self, said: str, heard: str) -> tuple[Score, Score]:
        """Word and character errors of one utterance."""
        words = jiwer.process_words(" ".join(self.words(said)), " ".join(self.words(heard)))
        characters = jiwer.process_characters(self(said), self(heard))
        return _score(words), _score(characters)

    def notes(self, texts: Sequence[str]) -> list[str]:
        """What a reader of error rates against these references must know."""
        case = "the case of texts is kept" if self.case == "as it is" else f"texts are made {self.case} case"
        found = [f"{len(texts)} recordings; {case}, punctuation that the vocabulary lacks is left out."]
        lacking = [missing for text in texts if (missing := self.lacking(text))]
        if lacking:
            some = " ".join(sorted(set[str]().union(*lacking))[:20])
            found.append(f"{len(lacking)} references hold characters that this vocabulary cannot write: {some}")
        return found

    def _written(self, c: str) -> str:
        if c in self._known or unicodedata.category(c)[0] in "LMN":
            return c
        return "" if c == "'" else " "


def _score(counted: jiwer.WordOutput | jiwer.CharacterOutput) -> Score:
    errors = counted.substitutions + counted.deletions + counted.insertions
    return Score(errors, counted.hits + counted.substitutions + counted.deletions)


def rate(scores: Sequence[Score]) -> float:
    """Errors for each unit of the references; without any unit, the errors themselves (all are insertions)."""
    return sum(score.errors for score in scores) / max(1, sum(score.length for score in scores))


def interval(scores: Sequence[Score]) -> tuple[float, float]:
    """Bounds of the rate with 95 % confidence, by the bootstrap over utterances (Bisani and Ney, ICASSP 2004)."""
    picks = np.random.default_rng(0).integers(len(scores), size=(RESAMPLES, len(scores)))
    errors, lengths = np.array(scores).T
    rates = errors[picks].sum(1) / np.maximum(1, lengths[picks].sum(1))
    low, high = np.percentile(rates, (2.5, 97.5))
    return float(low), float(high)
