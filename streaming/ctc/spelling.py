"""Spells typed words as a vocabulary writes them: adapts case, Unicode form and typographic marks.

A letter is looked up as typed, then composed and decomposed (NFC, NFD), then in the other case. Kinds of apostrophe
are equivalent, and so are kinds of hyphen; a hyphen that the vocabulary lacks separates words. As a last resort several
letters replace one (ß as SS); `respelled` reports that.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from .vocabulary import Vocabulary

APOSTROPHES: Final = "'’‘ʼʻ`´′＇"
HYPHENS: Final = "-‐‑－﹣−"
_ZERO_WIDTH_SPACE: Final = "\u200b"
_DASH_IN_WORD: Final = re.compile(r"(?<=\w)–(?=\w)")
# Alphabets with these letters pair i with İ and ı with I (Turkish, Azerbaijani, Tatar, ...).
_TURKIC: Final = (set("ığş"), set("İĞŞ"))
_TURKIC_CASE: Final = {"i": "İ", "ı": "I", "I": "ı", "İ": "i"}


class Speller:
    """The alphabet of a vocabulary. `separator` is the text between words: a blank space or nothing."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.separator = vocabulary.separator
        self._texts = {text for text in vocabulary.texts if text.strip()}
        self._alphabet = set("".join(text.strip() for text in self._texts))
        self._longest = max(map(len, self._texts), default=0)
        self._by_canonical = {unicodedata.normalize("NFD", letter): letter for letter in self._alphabet}
        self._by_lower = {letter.lower(): letter for letter in self._alphabet if len(letter.lower()) == 1}
        self._turkic = any(self._alphabet >= letters for letters in _TURKIC)
        self._written: dict[str, str | None] = {}  # by `letter`

    def units(self, phrase: str) -> list[str]:
        """The words of a phrase, or its characters where the vocabulary has no boundaries."""
        phrase = self.plain(phrase)
        if self.separator:
            return phrase.split()
        return [letter for cluster in clusters("".join(phrase.split())) for letter in self.letter(cluster) or cluster]

    def spell(self, word: str) -> str | None:
        """A unit as the vocabulary can write it, in any case; None if it cannot."""
        letters = [self.letter(cluster) for cluster in clusters(self.plain(word))]
        if not letters or None in letters:
            return None
        spelled = "".join(letter or "" for letter in letters)
        if word[1:].endswith("Σ") and spelled.endswith("σ") and "ς" in self._alphabet:
            spelled = spelled[:-1] + "ς"  # the form of this letter at the end of a word
        return spelled if self._can_write(spelled) else None

    def writes(self, phrase: str) -> bool:
        """Whether the vocabulary can write a phrase."""
        units = self.units(phrase)
        return bool(units) and all(self.spell(unit) is not None for unit in units)

    def unknown(self, word: str) -> list[str]:
        """Characters of a unit that the vocabulary cannot write, each once."""
        unknown = [cluster for cluster in clusters(self.plain(word)) if self.letter(cluster) is None]
        return [unicodedata.normalize("NFC", cluster) for cluster in dict.fromkeys(unknown)]

    def respelled(self, phrase: str) -> str | None:
        """The phrase as written if letters changed, not only their case or form; otherwise None."""
        if not self.replaced(phrase):
            return None
        return self.separator.join(self.spell(unit) or unit for unit in self.units(phrase))

    def replaced(self, text: str) -> dict[str, str]:
        """Letters of a text that the vocabulary lacks, with the letters that replace them."""
        found = {cluster: self._replacement(cluster) for cluster in clusters(self.plain(text))}
        return {cluster: other for cluster, other in found.items() if other is not None}

    def plain(self, text: str) -> str:
        """The text with the vocabulary's apostrophes and hyphens, and without invisible characters."""
        return "".join(map(self._plain, _DASH_IN_WORD.sub("-", text)))

    def letter(self, cluster: str) -> str | None:
        """How the vocabulary writes a letter with its combining marks; None if it cannot."""
        if cluster not in self._written:
            self._written[cluster] = self._same_letter(cluster) or self._replacement(cluster)
        return self._written[cluster]

    def _plain(self, character: str) -> str:
        if character in self._alphabet:
            return character
        if character in APOSTROPHES:
            return next((mark for mark in APOSTROPHES if mark in self._alphabet), character)
        if character in HYPHENS:
            return next((mark for mark in HYPHENS if mark in self._alphabet), " ")
        if character == _ZERO_WIDTH_SPACE:
            return " "
        return "" if unicodedata.category(character) == "Cf" else character

    def _same_letter(self, cluster: str) -> str | None:
        """The letter in the alphabet's form and case."""
        if (found := self._form(cluster)) is not None:
            return found
        composed = unicodedata.normalize("NFC", cluster)
        if self._turkic and composed in _TURKIC_CASE:
            return self._form(_TURKIC_CASE[composed])
        if composed in self._by_lower:  # ẞ for ß, whose own upper case is SS
            return self._by_lower[composed]
        for other in (composed.upper(), composed.lower()):
            if len(other) == len(composed) and (found := self._form(other)) is not None:
                return found
        return None

    def _form(self, cluster: str) -> str | None:
        """The shortest equivalent form that the alphabet can write; None if there is none."""
        forms = [cluster, *(unicodedata.normalize(form, cluster) for form in ("NFC", "NFD"))]
        if (canonical := self._by_canonical.get(forms[-1])) is not None:
            forms.append(canonical)
        return min((form for form in forms if self._alphabet.issuperset(form)), key=len, default=None)

    def _replacement(self, cluster: str) -> str | None:
        """Other letters for a letter that the alphabet lacks: ß as SS, İ as I, ﬁ as FI."""
        if self._same_letter(cluster) is not None:
            return None
        folded = cluster.casefold()
        if "İ" in unicodedata.normalize("NFC", cluster):
            folded = "i"
        for other in (cluster.upper(), folded, folded.upper(), unicodedata.normalize("NFKC", cluster)):
            letters = [self._same_letter(part) for part in clusters(other)] if other != cluster else [None]
            if letters and None not in letters:
                return "".join(letter or "" for letter in letters)
        return None

    def _can_write(self, word: str) -> bool:
        """Whether a sequence of tokens writes the word, without a boundary inside it."""
        reached = [True] + [False] * len(word)
        for end in range(1, len(word) + 1):
            after = {"", self.separator} if end == len(word) else {""}
            for start in range(max(0, end - self._longest), end):
                before = {"", self.separator} if start == 0 else {""}
                forms = {left + word[start:end] + right for left in before for right in after}
                reached[end] |= reached[start] and not forms.isdisjoint(self._texts)
        return reached[-1]


def clusters(text: str) -> Iterator[str]:
    """Characters, each with the combining marks after it."""
    cluster = ""
    for character in text:
        if cluster and not unicodedata.combining(character):
            yield cluster
            cluster = ""
        cluster += character
    if cluster:
        yield cluster
