"""Incremental greedy CTC (best path; Graves et al. 2006): repeats collapse, blanks vanish, boundaries end words.

The collapse state carries over from one block of rows to the next, so any split of the rows gives the same words. A
word is complete after its boundary; until then it is volatile, even if its first tokens cannot change.

Times are the frames of the CTC spikes, so a word begins a little late and ends a little early. The score of a token is
its highest log-probability in its run of frames. The confidence of a word is the geometric mean of the probabilities of
its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .vocabulary import Vocabulary

Rows = NDArray[np.float32]
Tokens = NDArray[np.intp]

PAUSE: Final = 50  # frames of blanks that end a word: models omit the boundary before a long silence


@dataclass(frozen=True, slots=True)
class DecodedWord:
    """Frames `[start, end)` of the utterance; `score` is the sum of the log-probabilities of `tokens` tokens."""

    text: str
    start: int
    end: int
    score: float
    tokens: int

    @property
    def confidence(self) -> float:
        return exp(self.score / self.tokens)


@dataclass(slots=True)
class _Run:
    """A token over successive frames `[start, end)`, not yet closed by another."""

    token: int
    start: int
    end: int
    best: float


class GreedyDecoder:
    """Words of one utterance: `push` committed rows, and preview volatile rows with `tail`."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.words: list[DecodedWord] = []  # complete and final
        self.frame = 0  # the next frame
        self._vocabulary = vocabulary
        self._run: _Run | None = None
        self._open: DecodedWord | None = None  # the word without a boundary yet

    def push(self, rows: Rows, tokens: Tokens | None = None) -> None:
        """Decode log-probabilities of the next frames, shape (frames, vocabulary).

        `tokens`, shape (frames,), is the path to decode; by default the best token of each frame.
        """
        if not len(rows):
            return
        path: Tokens = rows.argmax(axis=1) if tokens is None else tokens
        best = rows[np.arange(len(rows)), path]
        starts = np.flatnonzero(np.concatenate(([True], path[1:] != path[:-1])))
        ends = np.append(starts[1:], len(rows))
        peaks = np.maximum.reduceat(best, starts)
        for start, end, token, peak in zip(
            starts.tolist(), ends.tolist(), path[starts].tolist(), peaks.tolist(), strict=True
        ):
            self._extend(token, self.frame + start, self.frame + end, peak)
        self.frame += len(rows)

    def finish(self) -> None:
        """The utterance is over: the open word is complete."""
        self._close_run()
        self._close_word()

    @property
    def settled(self) -> int:
        """Frames before this one belong to complete words or to none."""
        if self._open is not None:
            return self._open.start
        run = self._run
        return run.start if run is not None and self._vocabulary.texts[run.token].strip() else self.frame

    def pending(self) -> list[DecodedWord]:
        """The open word, as it would be if the utterance ended here: none or one."""
        fork = self.fork()
        fork.finish()
        return fork.words

    def tail(self, rows: Rows) -> list[DecodedWord]:
        """Words after the complete ones if the utterance ended after `rows`; changes nothing."""
        fork = self.fork()
        fork.push(rows)
        fork.finish()
        return fork.words

    def fork(self) -> GreedyDecoder:
        """An independent copy, without the complete words."""
        fork = GreedyDecoder(self._vocabulary)
        fork.frame, fork._open = self.frame, self._open
        fork._run = _Run(self._run.token, self._run.start, self._run.end, self._run.best) if self._run else None
        return fork

    def _extend(self, token: int, start: int, end: int, peak: float) -> None:
        if self._run is not None and self._run.token == token:
            self._run.end = end
            self._run.best = max(self._run.best, peak)
        else:
            self._close_run()
            self._run = _Run(token, start, end, peak)
            if self._vocabulary.texts[token][:1].isspace():
                self._close_word()

    def _close_run(self) -> None:
        """Append the run's token to the open word; a long run of blanks ends the word."""
        run, self._run = self._run, None
        if run is None:
            return
        if run.token == self._vocabulary.blank:
            if run.end - run.start >= PAUSE:
                self._close_word()
            return
        written = self._vocabulary.texts[run.token]
        text = written.strip()
        if text:
            word = self._open
            self._open = (
                DecodedWord(text, run.start, run.end, run.best, 1)
                if word is None
                else DecodedWord(word.text + text, word.start, run.end, word.score + run.best, word.tokens + 1)
            )
        if not self._vocabulary.separator or written[-1:].isspace():
            self._close_word()

    def _close_word(self) -> None:
        if self._open is not None:
            self.words.append(self._open)
            self._open = None


def decode(rows: Rows, vocabulary: Vocabulary, tokens: Tokens | None = None) -> list[DecodedWord]:
    """Words of a whole utterance; arguments as for `GreedyDecoder.push`."""
    decoder = GreedyDecoder(vocabulary)
    decoder.push(rows, tokens)
    decoder.finish()
    return decoder.words


def confidence(words: Sequence[DecodedWord]) -> float:
    """Geometric mean of the probabilities of all tokens; 0 without words."""
    tokens = sum(word.tokens for word in words)
    return exp(sum(word.score for word in words) / tokens) if tokens else 0.0
