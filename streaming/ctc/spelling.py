"""How a vocabulary writes words that people typed in their own case."""

from __future__ import annotations

from .vocabulary import Vocabulary


class Speller:
    """The alphabet of a vocabulary. `separator` is what stands between words: a blank space, or nothing."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.separator = vocabulary.separator
        self._texts = {text for text in vocabulary.texts if text.strip()}
        self._alphabet = set("".join(text.strip() for text in self._texts))
        self._longest = max(map(len, self._texts), default=0)

    def units(self, phrase: str) -> list[str]:
        """The words of a phrase, or its characters where the vocabulary has no boundaries."""
        return phrase.split() if self.separator else list("".join(phrase.split()))

    def spell(self, word: str) -> str | None:
        """The word as the vocabulary can write it, in any case; None if it cannot."""
        folded = "".join(self._fold(character) or "" for character in word)
        whole = folded and not self.unknown(word)
        return folded if whole and self._can_write(folded) else None

    def unknown(self, word: str) -> list[str]:
        """Characters of the word that are in no token, each once."""
        return [character for character in dict.fromkeys(word) if self._fold(character) is None]

    def _fold(self, character: str) -> str | None:
        for form in (character, character.upper(), character.lower(), character.casefold()):
            if self._alphabet.issuperset(form):
                return form
        return None

    def _can_write(self, word: str) -> bool:
        """Whether tokens, one after the other, make the word; none with a boundary inside it."""
        reached = [True] + [False] * len(word)
        for end in range(1, len(word) + 1):
            after = {"", self.separator} if end == len(word) else {""}
            for start in range(max(0, end - self._longest), end):
                before = {"", self.separator} if start == 0 else {""}
                forms = {left + word[start:end] + right for left in before for right in after}
                reached[end] |= reached[start] and not forms.isdisjoint(self._texts)
        return reached[-1]
