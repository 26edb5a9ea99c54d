"""Texts in the one form that a vocabulary can write, for training and for scoring.

The form follows the rules for hotwords and grammars (`spelling`): the vocabulary's case and Unicode form, its
apostrophes and hyphens. Any other character that is neither a letter nor a digit becomes a blank (an apostrophe:
nothing). Letters and digits that the vocabulary lacks stay.
"""

from __future__ import annotations

import unicodedata

from .spelling import APOSTROPHES, Speller, clusters
from .vocabulary import Vocabulary


class NormalForm:
    """The normal form for one vocabulary. Without word boundaries in it every character is a word."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._speller = Speller(vocabulary)
        self._known = set("".join(vocabulary.texts))
        self._separator = vocabulary.separator
        upper, lower = (any(test(c) for c in self._known) for test in (str.isupper, str.islower))
        self.case = "upper" if upper and not lower else "lower" if lower and not upper else "as it is"

    def __call__(self, text: str) -> str:
        text = self._speller.plain(unicodedata.normalize("NFC", text))
        return self._separator.join("".join(map(self._written, clusters(text))).split())

    def lacking(self, text: str) -> set[str]:
        """Characters of the normal form that the vocabulary cannot write."""
        return set(self(text)) - self._known - {" "}

    def words(self, text: str) -> list[str]:
        """The units of the word error rate."""
        return self(text).split() if self._separator else list(self(text))

    def replaced(self, text: str) -> dict[str, str]:
        """Letters of a text that the vocabulary writes with others."""
        return self._speller.replaced(text)

    def _written(self, cluster: str) -> str:
        if cluster[0] in self._known:
            return self._speller.letter(cluster) or cluster
        if (letter := self._speller.letter(cluster)) is not None:
            return letter
        if unicodedata.category(cluster[0])[0] in "LMN":
            return cluster.upper() if self.case == "upper" else cluster.lower() if self.case == "lower" else cluster
        return "" if cluster[0] in APOSTROPHES else " "
