"""Vosk's phrase lists: the transcript holds only words of the phrases.

The original estimates a bigram of the phrases, with backoff: any of their words may follow any other, and many lists
are one phrase of all words. So here a list becomes a grammar of its words in any order, and every utterance is matched
against it. If the utterance is rejected, and in unfinished text, a sieve removes other words from what the model writes
with the list as hotwords.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from statistics import fmean
from typing import Final

from ....streaming.config import SessionConfig
from ....streaming.ctc.spelling import Speller
from ....streaming.ctc.vocabulary import Vocabulary
from ....streaming.protocol.events import Word
from ..mapping import writable

UNKNOWN: Final = "[unk]"  # in a list: other words are allowed, and written like this
SLOT: Final = "words"  # the slot of the grammar's only command
_MOST_ALTERNATIVES: Final = 5  # each takes 0.1 to 0.2 s


class PhraseList:
    """Words that the model cannot write are ignored, as the original ignores unknown words."""

    def __init__(self, phrases: Iterable[str], vocabulary: Vocabulary) -> None:
        speller = Speller(vocabulary)
        listed = dict.fromkeys(word for phrase in phrases for word in phrase.split())
        units = [unit for word in listed if word != UNKNOWN for unit in speller.units(word)]
        spelled = [(speller.spell(unit), unit) for unit in units]
        self._unknown = UNKNOWN in listed
        # Reversed: of several spellings of a word, the first counts.
        self._words = {written: unit for written, unit in reversed(spelled) if written is not None}
        self._hotwords = writable(self._words.values(), vocabulary)

    def settings(self, alternatives: int) -> SessionConfig:
        """Settings of a session with this list and at most this many alternatives, the best one included."""
        # With the slot, other words mean another command: a command with only one meaning would be decided early.
        grammar = f"said: ({SLOT}: ({' | '.join(self._words.values())})+)" if self._words else ""
        others = max(0, min(alternatives, _MOST_ALTERNATIVES) - 1)
        return SessionConfig(grammar=grammar, hotwords=self._hotwords, command_alternatives=others)

    def sieve(self, words: Iterable[Word]) -> Iterator[Word]:
        """The words of the list, in its spelling. Each run of other words is left out, or becomes one unknown word."""
        for listed, group in groupby(words, lambda word: word.word in self._words):
            run = list(group)
            if listed:
                yield from (Word(self._words[one.word], one.start, one.end, one.confidence) for one in run)
            elif self._unknown:
                yield Word(UNKNOWN, run[0].start, run[-1].end, fmean(one.confidence for one in run))
