"""Vosk's phrase lists: from then on nothing is written but words of the phrases.

The original estimates a bigram of the phrases, with backoff: any of their words may follow any other, and many lists
are one phrase of all words. So here they are a grammar of these words in any order, against which an utterance is held.
Of one that is rejected, and of unfinished text, what the model writes with the words as hotwords goes through a sieve.
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

UNKNOWN: Final = "[unk]"  # in a list: other words may be said, and are written so
SLOT: Final = "words"  # of the grammar's only command
_MOST_ALTERNATIVES: Final = 5  # each of them takes a tenth of a second or two


class PhraseList:
    """Words that the model cannot write are ignored, as in the original those that it does not know."""

    def __init__(self, phrases: Iterable[str], vocabulary: Vocabulary) -> None:
        speller = Speller(vocabulary)
        listed = dict.fromkeys(word for phrase in phrases for word in phrase.split())
        units = [unit for word in listed if word != UNKNOWN for unit in speller.units(word)]
        spelled = [(speller.spell(unit), unit) for unit in units]
        self._unknown = UNKNOWN in listed
        self._words = {written: unit for written, unit in reversed(spelled) if written is not None}  # the first counts
        self._hotwords = writable(self._words.values(), vocabulary)

    def settings(self, alternatives: int) -> SessionConfig:
        """Of a session that listens for the list, and tells so many alternatives at most, the best among them."""
        # The slot makes other words another command: one of one meaning would be told as soon as it is certain.
        grammar = f"said: ({SLOT}: ({' | '.join(self._words.values())})+)" if self._words else ""
        others = max(0, min(alternatives, _MOST_ALTERNATIVES) - 1)
        return SessionConfig(grammar=grammar, hotwords=self._hotwords, command_alternatives=others)

    def sieve(self, words: Iterable[Word]) -> Iterator[Word]:
        """The words of the list, in its spelling; what lies between them is left out, or is one unknown word."""
        for listed, group in groupby(words, lambda word: word.word in self._words):
            some = list(group)
            if listed:
                yield from (Word(self._words[one.word], one.start, one.end, one.confidence) for one in some)
            elif self._unknown:
                yield Word(UNKNOWN, some[0].start, some[-1].end, fmean(one.confidence for one in some))
