"""What words add to the score of a hypothesis."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite

from ..errors import LanguageModelError
from .ngram import Context, Ngram


@dataclass(frozen=True, slots=True)
class Weights:
    """How a hypothesis is scored: log-probability of its path + `lm` x log10 of the n-gram + `word` for each word.

    The other numbers bound the search: hypotheses kept, and their distance from the best; tokens tried at a frame, and
    their distance from the best.
    """

    lm: float = 1.6
    word: float = 1.5
    beam: int = 100
    tokens: int = 16
    threshold: float = 15.0
    token_threshold: float = 8.0
    unknown: float = 0.5  # confidence from which a word that the lexicon lacks takes part as the model heard it

    def narrow(self) -> Weights:
        """For live steps: most errors that a wider search avoids are those that the final corrects anyway."""
        return replace(
            self,
            beam=min(self.beam, 50),
            threshold=min(self.threshold, 12.0),
            token_threshold=min(self.token_threshold, 7.0),
        )

    def __post_init__(self) -> None:
        positive = self.threshold > 0 and self.token_threshold > 0 and isfinite(self.threshold)
        if not (0 <= self.lm <= 100 and abs(self.word) <= 100 and positive):
            raise LanguageModelError("an LM weight of 0 to 100, a word score of -100 to 100, a positive threshold")
        if not (1 <= self.beam <= 10_000 and self.tokens >= 1):
            raise LanguageModelError("a beam holds 1 to 10000 hypotheses and tries at least 1 token")


class WordScores:
    """Contexts of the n-gram by number, and the words that were scored after them."""

    def __init__(self, ngram: Ngram, weights: Weights, *, merged: bool) -> None:
        self._ngram = ngram
        self._weights = weights
        self._merged = merged
        self._contexts: list[Context] = [ngram.start]
        self._numbers = {ngram.start: 0}
        self._scored: dict[tuple[int, int], tuple[float, int]] = {}
        self._known: dict[tuple[Context, int], tuple[float, Context]] = {}  # shared with forks: it has no numbers

    def fork(self) -> WordScores:
        """A copy; numbers given in one do not appear in the other."""
        fork = WordScores.__new__(WordScores)
        fork._ngram, fork._weights, fork._merged = self._ngram, self._weights, self._merged
        fork._contexts, fork._numbers, fork._scored = [*self._contexts], {**self._numbers}, {**self._scored}
        fork._known = self._known
        return fork

    def score(self, context: int, label: int) -> tuple[float, int]:
        """What a word adds to the score after a context, and the context after it."""
        if (known := self._scored.get((context, label))) is None:
            language, after = self._look_up(context, label)
            number = self._numbers.get(after) if self._merged else None
            if number is None:
                number = self._numbers[after] = len(self._contexts)
                self._contexts.append(after)
            known = self._scored[context, label] = self._weights.lm * language + self._weights.word, number
        return known

    def end(self, context: int) -> float:
        """What the end of the sentence adds."""
        return self._weights.lm * self._look_up(context, self._ngram.end)[0]

    def _look_up(self, context: int, label: int) -> tuple[float, Context]:
        key = self._contexts[context], label
        if (found := self._known.get(key)) is None:
            found = self._known[key] = self._ngram.score(*key)
        return found
