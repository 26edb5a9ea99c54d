"""Beam search with a word n-gram and a lexicon, incremental; used like `decode.GreedyDecoder`.

The beam goes on word by word of the greedy path: when that completes a word, the frames up to its end are searched.
So what the beam has heard depends on the rows alone, not on how they were split, and a word that the lexicon lacks can
take part in the very frames in which it was heard: spelled as the greedy path has it, if that is confident enough, and
scored by the language model as its rarest word.

Without a look-back all hypotheses live until the utterance ends, as a final wants it. With one, words of the best
hypothesis that ended so long ago become complete: the search begins anew after them, led to the same place by rows that
allow the last words only, so that nothing which contradicts them stays. (flashlight's own `prune` forgets the past but
keeps the hypotheses that had another one.) Memory and the cost of a tail are then bounded.

Words, times and confidences are those of the best hypothesis' own path.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from .greedy import DecodedWord, GreedyDecoder
from .lexicon import Spelling

if TYPE_CHECKING:
    from .lm import LanguageModel, Search, Trace

Rows = NDArray[np.float32]

LIVE_LOOK_BACK: Final = 100  # frames after which words of partials become complete

_SETTLE: Final = 100  # frames between two looks at what is complete
_CONTEXT: Final = 5  # words that the n-gram may look back on: KenLM's highest order, less one
_NEVER: Final = -1e4  # log-probability that keeps every hypothesis away


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """`score` is what the search maximises: `acoustic` + LM weight x `language` (log10) + word score x words.

    With a look-back the scores tell hypotheses from each other and no more.
    """

    words: tuple[DecodedWord, ...]
    score: float
    acoustic: float
    language: float


class BeamDecoder:
    """Words of one utterance. `push` what is committed; ask `tail` what volatile rows would add.

    `look_back` is in frames; None: words are complete when the utterance is. `certain` words take part however badly
    they were heard.
    """

    def __init__(self, model: LanguageModel, *, look_back: int | None = None, certain: Collection[str] = ()) -> None:
        self.words: list[DecodedWord] = []  # complete and final
        self.hypotheses: list[Hypothesis] = []  # of the whole utterance, the best first; known once it is finished
        self._model = model
        self._look_back = look_back
        self._certain = certain
        self._greedy = GreedyDecoder(model.vocabulary)
        self._heard = 0  # words of the greedy path that were searched
        self._strangers: list[Spelling] = []
        self._context: list[Spelling] = []  # spellings of the last complete words
        self._start = 0  # first frame that is not complete
        self._rows = np.empty((0, len(model.vocabulary)), np.float32)  # from there on
        self._searched = 0  # rows that the search has heard
        self._search, self._skip = self._begin()

    def push(self, rows: Rows) -> None:
        """Decode log-probabilities of the next frames, shape (frames, vocabulary)."""
        self._greedy.push(rows)
        self._rows = np.concatenate((self._rows, rows))
        self._follow()

    def finish(self) -> None:
        """The utterance is over: all words are complete."""
        self._greedy.finish()
        self._follow()
        self._advance(len(self._rows))
        complete = tuple(self.words)
        found: dict[tuple[str, ...], Hypothesis] = {}
        for trace in self._end(self._search):
            words = (*complete, *self._read(trace.tokens[self._skip :], self._rows))
            heard = Hypothesis(words, trace.score, trace.acoustic, trace.language)
            found.setdefault(tuple(word.text for word in words), heard)
        self.hypotheses = list(found.values())
        self.words = list(self.hypotheses[0].words)

    def pending(self) -> list[DecodedWord]:
        """Words after the complete ones, as far as they are known."""
        return self.tail(self._rows[:0])

    def tail(self, rows: Rows) -> list[DecodedWord]:
        """Words after the complete ones if `rows` came next and the utterance ended there; changes nothing."""
        rest = np.concatenate((self._rows, rows))
        if not len(rest):
            return []
        volatile = [*self._greedy.words[self._heard :], *self._greedy.tail(rows)]
        search, skip = self._begin(spelling for word in volatile if (spelling := self._stranger(word)))
        search.step(rest)
        return self._read(self._end(search)[0].tokens[skip:], rest)

    def _begin(self, strangers: Iterable[Spelling] = ()) -> tuple[Search, int]:
        """A search that stands where the complete words end, and how many places its traces have before that."""
        search = self._model.search([*self._strangers, *strangers])
        pinned = self._pinned()
        search.step(pinned)
        return search, len(pinned) + 1

    def _follow(self) -> None:
        """Search what the greedy path has made words of."""
        for word in self._greedy.words[self._heard :]:
            if (spelling := self._stranger(word)) and spelling not in self._strangers:
                self._strangers.append(spelling)
                self._search.add(spelling)
            self._advance(word.end - self._start)
            self._heard += 1
            if self._look_back is not None and self._searched >= self._look_back + _SETTLE:
                self._settle(self._searched - self._look_back)

    def _stranger(self, word: DecodedWord) -> Spelling | None:
        """Its spelling, if the lexicon lacks the word and it was heard well, or is certain."""
        if word.confidence < self._model.weights.unknown and word.text not in self._certain:
            return None
        spelling = self._model.spell(word.text)
        return spelling if spelling and self._model.lacks(spelling) else None

    def _advance(self, end: int) -> None:
        """Search the rows up to `end`."""
        self._search.step(self._rows[self._searched : end])
        self._searched = end

    def _end(self, search: Search) -> list[Trace]:
        """End the last word and the sentence; the traces without the two places which that adds."""
        row = np.full((1, len(self._model.vocabulary)), _NEVER, np.float32)
        row[0, [self._model.boundary, self._model.vocabulary.blank]] = 0
        search.step(row)
        search.end()
        return [trace._replace(tokens=trace.tokens[:-2], words=trace.words[:-2]) for trace in search.traces()]

    def _settle(self, end: int) -> None:
        """Complete the best hypothesis' words that end before row `end`."""
        best = self._search.traces()[0]
        ends = np.flatnonzero(best.words[self._skip : self._skip + end] >= 0)
        if not len(ends):
            return
        cut = int(ends[-1]) + 1
        tokens = best.tokens[self._skip : self._skip + cut]
        self.words += self._read(tokens, self._rows)
        self._context = [*self._context, *self._spellings(tokens)][-_CONTEXT:]
        self._rows = self._rows[cut:]
        self._start += cut
        self._search, self._skip = self._begin()
        self._searched, searched = 0, self._searched - cut
        self._advance(searched)

    def _read(self, tokens: NDArray[np.intp], rows: Rows) -> list[DecodedWord]:
        """Words of a path, (frames,), over the first of the rows that are not complete."""
        decoder = GreedyDecoder(self._model.vocabulary)
        decoder.frame = self._start
        decoder.push(rows[: len(tokens)], tokens)
        decoder.finish()
        return decoder.words

    def _spellings(self, tokens: NDArray[np.intp]) -> list[Spelling]:
        """Of the words of a path that ends with a boundary."""
        kept = tokens[np.append(True, tokens[1:] != tokens[:-1])]
        words: list[list[int]] = [[]]
        for token in kept[kept != self._model.vocabulary.blank].tolist():
            if token == self._model.boundary:
                words.append([])
            else:
                words[-1].append(token)
        return [tuple(word) for word in words if word]

    def _pinned(self) -> Rows:
        """Rows that allow the last complete words and nothing else."""
        path: list[int] = []
        for word in self._context:
            for token in word:
                path += [self._model.vocabulary.blank, token] if path[-1:] == [token] else [token]
            path.append(self._model.boundary)
        rows = np.full((len(path), len(self._model.vocabulary)), _NEVER, np.float32)
        rows[np.arange(len(path)), path] = 0
        return rows


def decode_beam(rows: Rows, model: LanguageModel) -> Sequence[Hypothesis]:
    """Hypotheses, the best first, of a whole utterance's log-probabilities, shape (frames, vocabulary)."""
    decoder = BeamDecoder(model)
    decoder.push(rows)
    decoder.finish()
    return decoder.hypotheses
