"""Chooses the hotwords of a benchmark: the words of a reference that the language model finds least likely.

Of the distinct words of at least three letters (shorter ones are spelled letters and function words), those with the
lowest unigram probability. Words outside the lexicon come first. Among equals the longer word comes first, then
alphabetical order decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...streaming.ctc.lm import LanguageModel

MIN_LETTERS: Final = 3


def rarest_words(words: Sequence[str], model: LanguageModel, count: int) -> list[str]:
    """At most `count` of the words, rarest first."""
    candidates = {word for word in words if len(word) >= MIN_LETTERS and model.spell(word)}
    return sorted(candidates, key=lambda word: (model.unigram(word), -len(word), word))[:count]


def distractors(references: Sequence[Sequence[str]], rare: Sequence[Sequence[str]]) -> list[list[str]]:
    """For each recording, the rare words of the next recording that has any outside this reference (cyclic order)."""
    found: list[list[str]] = []
    for place, reference in enumerate(references):
        words: list[str] = []
        for candidates in (*rare[place + 1 :], *rare[:place]):
            if words := [word for word in candidates if word not in reference]:
                break
        found.append(words)
    return found
