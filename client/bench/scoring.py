"""Error rates: a normal form for references and transcripts, error counts, confidence intervals.

The normal form is what the vocabulary can write (`ctc.normal_form`). Letters and digits that the vocabulary lacks stay
and count as errors: the model cannot write them, and removing them would hide that. In a vocabulary without word
boundaries every character is a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import jiwer
import numpy as np

from ...streaming.ctc.normal_form import NormalForm

RESAMPLES: Final = 1_000


class ErrorCount(NamedTuple):
    """Number of errors, and length of the reference."""

    errors: int  # insertions, deletions and substitutions
    length: int  # of the reference


class TextNormalizer(NormalForm):
    """The normal form for one vocabulary, and errors in it."""

    def score(self, reference: str, transcript: str) -> tuple[ErrorCount, ErrorCount]:
        """Word and character errors of one utterance."""
        words = jiwer.process_words(" ".join(self.words(reference)), " ".join(self.words(transcript)))
        characters = jiwer.process_characters(self(reference), self(transcript))
        return _count(words), _count(characters)

    def notes(self, references: Sequence[str]) -> list[str]:
        """Notes for readers of error rates against these references."""
        case = "case is kept" if self.case == "as it is" else f"all text is {self.case} case"
        found = [f"{len(references)} recordings; {case}; punctuation that the vocabulary lacks is removed."]
        lacking = [missing for text in references if (missing := self.lacking(text))]
        if lacking:
            some = " ".join(sorted(set[str]().union(*lacking))[:20])
            found.append(f"{len(lacking)} references have characters that this vocabulary cannot write: {some}")
        replaced = {letter: other for text in references for letter, other in self.replaced(text).items()}
        if replaced:
            some = ", ".join(f"{letter} as {other}" for letter, other in sorted(replaced.items())[:20])
            found.append(f"letters of references that this vocabulary writes with other letters: {some}")
        return found


@dataclass(slots=True)
class TranscriptScores:
    """Transcripts of one kind and their errors, in the order of the recordings."""

    texts: list[str] = field(default_factory=list[str])
    words: list[ErrorCount] = field(default_factory=list[ErrorCount])
    characters: list[ErrorCount] = field(default_factory=list[ErrorCount])

    def add(self, normalizer: TextNormalizer, reference: str, transcript: str) -> None:
        words, characters = normalizer.score(reference, transcript)
        self.texts.append(transcript)
        self.words.append(words)
        self.characters.append(characters)

    @property
    def wer(self) -> float:
        return rate(self.words)

    @property
    def cer(self) -> float:
        return rate(self.characters)

    @property
    def interval(self) -> str:
        low, high = interval(self.words)
        return f"{100 * low:.1f} to {100 * high:.1f}"

    def report(self) -> dict[str, Any]:
        return {"wer": self.wer, "wer_95": interval(self.words), "cer": self.cer}


def _count(counted: jiwer.WordOutput | jiwer.CharacterOutput) -> ErrorCount:
    errors = counted.substitutions + counted.deletions + counted.insertions
    return ErrorCount(errors, counted.hits + counted.substitutions + counted.deletions)


def rate(counts: Sequence[ErrorCount]) -> float:
    """Errors for each unit of the references; for empty references the number of errors (insertions)."""
    return sum(count.errors for count in counts) / max(1, sum(count.length for count in counts))


def interval(counts: Sequence[ErrorCount]) -> tuple[float, float]:
    """The 95 % confidence interval of the rate, by the bootstrap over utterances (Bisani and Ney, ICASSP 2004)."""
    picks = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))
    errors, lengths = np.array(counts).T
    rates = errors[picks].sum(1) / np.maximum(1, lengths[picks].sum(1))
    low, high = np.percentile(rates, (2.5, 97.5))
    return float(low), float(high)
