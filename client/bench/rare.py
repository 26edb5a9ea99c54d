"""Words that somebody would give as hotwords: the rarest of what is said, to a language model.

The rule: of the different words of a reference with at least three letters (shorter ones are spelled letters and
function words), those that the language model finds least likely whatever comes before them. Words that its lexicon
lacks come first; of equals the longer word does, then the one that comes first in the alphabet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...streaming.ctc.lm import LanguageModel

SHORTEST: Final = 3  # letters


def rarest(words: Sequence[str], model: LanguageModel, count: int) -> list[str]:
    """At most so many of the words, the rarest first."""
    long = {word for word in words if len(word) >= SHORTEST and model.spell(word)}
    return sorted(long, key=lambda word: (model.unigram(word), -len(word), word))[:count]


def unsaid(spoken: Sequence[Sequence[str]], chosen: Sequence[Sequence[str]]) -> list[list[str]]:
    """For each recording the chosen words of the nearest one after it (round and round) that are not said in it."""
    found: list[list[str]] = []
    for place, said in enumerate(spoken):
        nearest: list[str] = []
        for other in (*chosen[place + 1 :], *chosen[:place]):
            if nearest := [word for word in other if word not in said]:
                break
        found.append(nearest)
    return found
