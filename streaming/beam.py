"""Beam search with a word n-gram and a lexicon, incremental; used like `decode.GreedyDecoder`.

The beam goes on word by word of the greedy path: when that completes a word, the frames up to its end are searched.
So what the beam has heard depends on the rows alone, not on how they were split, and a word that the lexicon lacks can
take part in the very frames in which it was heard: spelled as the greedy path has it, if that is confident enough, and
scored by the language model as its rarest word.

Words on which all hypotheses agree, ending at the same frame, are complete and are forgotten by the search; memory is
bounded by how long hypotheses disagree. Words, times and confidences are those of the best hypothesis' own path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from .decode import DecodedWord, GreedyDecoder
from .lexicon import Spelling

if TYPE_CHECKING:
    from .lm import LanguageModel, Search, Trace

Rows = NDArray[np.float32]

_SETTLE: Final = 50  # frames between two looks at what all hypotheses agree on
_CONTEXT: Final = 5  # words that the n-gram may look back on: KenLM's highest order, less one
_NEVER: Final = -1e4  # log-probability that keeps every hypothesis away


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """`score` is what the search maximises: `acoustic` + LM weight x `language` (log10) + word score x words."""

    words: tuple[DecodedWord, ...]
    score: float
    acoustic: float
    language: float


class BeamDecoder:
    """Words of one utterance. `push` what is committed; ask `tail` what volatile rows would add."""

    def __init__(self, model: LanguageModel) -> None:
        self.words: list[DecodedWord] = []  # complete and final
        self.hypotheses: list[Hypothesis] = []  # of the whole utterance, the best first; known once it is finished
        self._model = model
        self._search = model.search()
        self._greedy = GreedyDecoder(model.vocabulary)
        self._heard = 0  # words of the greedy path that were searched
        self._strangers: list[Spelling] = []
        self._context: list[Spelling] = []  # spellings of the last complete words
        self._first = -1  # frame of the first place of the search's traces
        self._searched = 0  # frames that the search has heard
        self._rows = np.empty((0, len(model.vocabulary)), np.float32)  # from the first place on
        self._score = 0.0  # of what the search has forgotten

    @property
    def frame(self) -> int:
        """The next frame."""
        return self._greedy.frame

    @property
    def last_token_end(self) -> int:
        return self._greedy.last_token_end

    def push(self, rows: Rows) -> None:
        """Decode log-probabilities of the next frames, shape (frames, vocabulary)."""
        self._greedy.push(rows)
        self._rows = np.concatenate((self._rows, rows))
        self._follow()

    def finish(self) -> None:
        """The utterance is over: all words are complete."""
        self._greedy.finish()
        self._follow()
        self._advance(self.frame)
        traces = self._end(self._search)
        complete = tuple(self.words)
        found: dict[tuple[str, ...], Hypothesis] = {}
        for trace in traces:
            words = (*complete, *self._read(trace.tokens[self._start - self._first :], self._rows, self._start))
            heard = Hypothesis(words, self._score + trace.score, trace.acoustic, trace.language)
            found.setdefault(tuple(word.text for word in words), heard)
        self.hypotheses = list(found.values())
        self.words = list(self.hypotheses[0].words)

    def pending(self) -> list[DecodedWord]:
        """Words after the complete ones, as far as they are known."""
        return self.tail(self._rows[:0])

    def tail(self, rows: Rows) -> list[DecodedWord]:
        """Words after the complete ones if `rows` came next and the utterance ended there; changes nothing.

        A second search goes over what is not complete, led to the same place by rows that allow the last words only.
        """
        rest = np.concatenate((self._rows, rows))
        if not len(rest):
            return []
        volatile = [*self._greedy.words[self._heard :], *self._greedy.tail(rows)]
        strangers = [spelling for word in volatile if (spelling := self._stranger(word))]
        search = self._model.search([*self._strangers, *strangers])
        pinned = self._pinned()
        search.step(pinned)
        search.step(rest)
        best = self._end(search)[0]
        return self._read(best.tokens[len(pinned) + 1 :], rest, self._start)

    @property
    def _start(self) -> int:
        """Frame of the first of the rows. Before the first cut the traces begin one place earlier."""
        return max(self._first, 0)

    def _follow(self) -> None:
        """Search what the greedy path has made words of."""
        for word in self._greedy.words[self._heard :]:
            if (spelling := self._stranger(word)) and spelling not in self._strangers:
                self._strangers.append(spelling)
                self._search.add(spelling)
            self._advance(word.end)
            self._heard += 1
            if self._searched - self._first > _SETTLE:
                self._settle()

    def _stranger(self, word: DecodedWord) -> Spelling | None:
        """Its spelling, if the lexicon lacks the word and it was heard well."""
        if word.confidence < self._model.weights.unknown:
            return None
        spelling = self._model.spell(word.text)
        return spelling if spelling and self._model.lacks(spelling) else None

    def _advance(self, frame: int) -> None:
        self._search.step(self._rows[self._searched - self._start : frame - self._start])
        self._searched = frame

    def _end(self, search: Search) -> list[Trace]:
        """End the last word and the sentence; the traces without the two places which that adds."""
        row = np.full((1, len(self._model.vocabulary)), _NEVER, np.float32)
        row[0, [self._model.boundary, self._model.vocabulary.blank]] = 0
        search.step(row)
        search.end()
        return [trace._replace(tokens=trace.tokens[:-2], words=trace.words[:-2]) for trace in search.traces()]

    def _settle(self) -> None:
        """Complete the words on which all hypotheses agree."""
        traces = self._search.traces()
        words = np.stack([trace.words for trace in traces])
        tokens = np.stack([trace.tokens for trace in traces])
        agreed = _leading(words)
        # All words that the lexicon lacks have one label: they agree where their tokens do.
        strangers = np.flatnonzero(words[0, :agreed] == self._model.stranger)
        if len(strangers) and strangers[-1] >= (same := _leading(tokens)):
            agreed = int(strangers[strangers >= same][0])
        ends = np.flatnonzero(words[0, : min(agreed, words.shape[1] - 1)] >= 0)
        if not len(ends):
            return
        cut = int(ends[-1]) + 1  # the first place that stays
        self.words += self._read(tokens[0, self._start - self._first : cut], self._rows, self._start)
        self._context = [*self._context, *self._spellings(tokens[0, :cut])][-_CONTEXT:]
        self._search.prune(words.shape[1] - cut)
        self._score += traces[0].score
        self._rows = self._rows[self._first + cut - self._start :]
        self._first += cut

    def _read(self, tokens: NDArray[np.intp], rows: Rows, frame: int) -> list[DecodedWord]:
        """Words of a path, (frames,), over the first of the rows, which are those from `frame` on."""
        decoder = GreedyDecoder(self._model.vocabulary)
        decoder.frame = frame
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


def _leading(table: NDArray[np.intp]) -> int:
    """Leading columns in which all rows are the same."""
    same = (table == table[0]).all(axis=0)
    return len(same) if same.all() else int(same.argmin())
