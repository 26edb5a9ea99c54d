"""How a vocabulary writes words that people typed in their own case."""

from __future__ import annotations

from .vocabulary import Vocabulary


class Speller:
    """The alphabet of a vocabulary. `separator` is what stands between words: a blank space, or nothing."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.separator = vocabulary.separator
        self._pieces = {piece for text in vocabulary.texts if (piece := text.strip())}
        self._alphabet = set("".join(self._pieces))

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

    def _can_write(self, text: str) -> bool:
        """Whether tokens, one after the other, make the text."""
        reached = [True] + [False] * len(text)
        for end in range(1, len(text) + 1):
            reached[end] = any(reached[start] and text[start:end] in self._pieces for start in range(end))
        return reached[-1]
