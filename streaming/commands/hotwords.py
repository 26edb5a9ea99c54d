"""Greedy CTC with hotwords: it writes a phrase where the audio nearly matches it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from ..ctc.greedy import DecodedWord, GreedyDecoder, Rows
from ..ctc.vocabulary import Vocabulary
from .spotting import Detection, Phrases, Spotter

if TYPE_CHECKING:
    from ..ctc.lm import BoostedPhrases

_MARGIN: Final = 20.0  # nats; more than a language model can cost a word


class HotwordSet(NamedTuple):
    """The same phrases for greedy decoders and for searches; `boosted` is None without a language model."""

    phrases: Phrases
    boosted: BoostedPhrases | None


class HotwordDecoder:
    """A `GreedyDecoder` with phrases. Rows wait while they may become part of a phrase."""

    def __init__(self, vocabulary: Vocabulary, phrases: Phrases | None) -> None:
        self.phrases = phrases
        self._greedy = GreedyDecoder(vocabulary)
        self._spotter = Spotter(phrases) if phrases else None
        self._waiting = np.empty((0, len(vocabulary)), np.float32)  # unsettled rows

    @property
    def words(self) -> list[DecodedWord]:
        """The complete words; they never change."""
        return self._greedy.words

    def change(self, phrases: Phrases | None) -> None:
        """Use these phrases from now on, also in waiting rows."""
        self.phrases = phrases
        rows, self._waiting = self._waiting, self._waiting[:0]
        self._spotter = Spotter(phrases, frame=self._greedy.frame) if phrases else None
        self.push(rows)

    def push(self, rows: Rows) -> None:
        """Decode log-probabilities of the next frames, shape (frames, vocabulary)."""
        self._waiting = np.concatenate((self._waiting, rows))
        self._write(self._spotter.push(rows) if self._spotter else [])

    def finish(self) -> None:
        """The utterance is over: the open word is complete."""
        self._write(self._spotter.finish() if self._spotter else [])
        self._greedy.finish()

    def pending(self) -> list[DecodedWord]:
        """Words after the complete ones, as they would be if the utterance ended here."""
        return self.tail(self._waiting[:0])

    def tail(self, rows: Rows) -> list[DecodedWord]:
        """Words after the complete ones if the utterance ended after `rows`; changes nothing."""
        fork = self._fork()
        fork.push(rows)
        fork.finish()
        return fork.words

    def _fork(self) -> HotwordDecoder:
        fork = HotwordDecoder.__new__(HotwordDecoder)
        fork._greedy = self._greedy.fork()
        fork._spotter = self._spotter.fork() if self._spotter else None
        fork._waiting, fork.phrases = self._waiting, self.phrases
        return fork

    def _write(self, found: list[Detection]) -> None:
        """Decode settled rows, with the detected phrases."""
        count = self._spotter.settled - self._greedy.frame if self._spotter else len(self._waiting)
        if count:
            rows, self._waiting = self._waiting[:count], self._waiting[count:]
            tokens = rows.argmax(axis=1)
            for each in found:
                start = each.path.start - self._greedy.frame
                tokens[start : start + len(each.path.tokens)] = each.path.tokens
            self._greedy.push(rows, tokens)


def favour(rows: Rows, phrases: Phrases) -> Rows:
    """Rows of a whole utterance, (frames, vocabulary), in which a search without phrases finds the phrases.

    In the frames of a detected phrase, its tokens keep their log-probabilities and all other tokens become unlikely.
    """
    spotter = Spotter(phrases)
    favoured = rows.copy()
    for found in (*spotter.push(rows), *spotter.finish()):
        tokens = found.path.tokens
        frames = np.arange(found.path.start, found.path.start + len(tokens))
        own = rows[frames, tokens]
        favoured[frames] = np.minimum(rows[frames], own[:, None] - np.float32(_MARGIN))
        favoured[frames, tokens] = own
    return favoured
