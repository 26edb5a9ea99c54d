"""Greedy CTC with hotwords: phrases that are written where they nearly were."""

from __future__ import annotations

import numpy as np

from .decode import DecodedWord, GreedyDecoder, Rows
from .spotting import Found, Phrases, Spotter
from .vocabulary import Vocabulary


class HotwordDecoder:
    """A `GreedyDecoder` that knows phrases. Rows wait while a phrase may still be found in them; `words` only grow."""

    def __init__(self, vocabulary: Vocabulary, phrases: Phrases | None) -> None:
        self._greedy = GreedyDecoder(vocabulary)
        self._spotter = Spotter(phrases) if phrases else None
        self._waiting = np.empty((0, len(vocabulary)), np.float32)  # rows that are not settled

    @property
    def words(self) -> list[DecodedWord]:
        """Complete and final."""
        return self._greedy.words

    @property
    def frame(self) -> int:
        """Next frame."""
        return self._greedy.frame + len(self._waiting)

    def change(self, phrases: Phrases | None) -> None:
        """Listen for these from now on, also in the rows that still wait."""
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
        """Words that have begun but are not final, as far as they are known."""
        return self.tail(self._waiting[:0])

    def tail(self, rows: Rows) -> list[DecodedWord]:
        """Words after the final ones if `rows` came next and the utterance ended there; changes nothing."""
        fork = self._fork()
        fork.push(rows)
        fork.finish()
        return fork.words

    def _fork(self) -> HotwordDecoder:
        fork = HotwordDecoder.__new__(HotwordDecoder)
        fork._greedy = self._greedy.fork()
        fork._spotter = self._spotter.fork() if self._spotter else None
        fork._waiting = self._waiting
        return fork

    def _write(self, found: list[Found]) -> None:
        """Decode what is settled, with the phrases in their places."""
        count = self._spotter.settled - self._greedy.frame if self._spotter else len(self._waiting)
        if count:
            rows, self._waiting = self._waiting[:count], self._waiting[count:]
            tokens = rows.argmax(axis=1)
            for each in found:
                start = each.path.start - self._greedy.frame
                tokens[start : start + len(each.path.tokens)] = each.path.tokens
            self._greedy.push(rows, tokens)
