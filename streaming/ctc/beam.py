"""Words of one utterance by beam search with a language model; used like `greedy.GreedyDecoder`.

The search follows the greedy path: it takes the frames of a word only when the greedy word is complete. If that word is
confident and outside the lexicon, the search adds its greedy spelling before it takes these frames, with the language
model's score of the rarest word in the lexicon. The result does not depend on how the rows are split.

Finals use no look-back: all hypotheses live until the utterance ends. Partials use one: a word is complete when all
likely hypotheses share it, at the latest after the look-back, and hypotheses without it are dropped. This bounds memory
and the cost of `tail`.

Words, times and confidences come from the path of the best hypothesis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from .greedy import PAUSE, DecodedWord, GreedyDecoder

if TYPE_CHECKING:
    from .lm import BoostedPhrases, LanguageModel
    from .search import Trace

Rows = NDArray[np.float32]

LIVE_LOOK_BACK: Final = 100  # frames after which words of partials become complete

_SETTLE: Final = 8  # frames between two calls of `Search.settle`
_NEVER: Final = 1 << 62  # frames
_MARGIN: Final = 5.0  # nats below the best; less likely hypotheses do not keep a word open


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """`score` = `acoustic` + LM weight x `language` (log10) + word score x words + boosts of its phrases."""

    words: tuple[DecodedWord, ...]
    score: float
    acoustic: float
    language: float


class BeamDecoder:
    """Words of one utterance: `push` committed rows, and preview volatile rows with `tail`.

    `look_back` is in frames; None: words are complete when the utterance ends.
    """

    def __init__(
        self, model: LanguageModel, *, look_back: int | None = None, phrases: BoostedPhrases | None = None
    ) -> None:
        self.words: list[DecodedWord] = []  # complete and final
        self.phrases = phrases
        self._model = model
        self._look_back = look_back
        self._greedy = GreedyDecoder(model.vocabulary)
        self._heard = _NEVER  # the first frame in which the greedy path writes
        self._busy = -1  # the last frame whose best token is not the blank
        self._checked = 0  # words of the greedy path that are looked up in the lexicon
        self._added: dict[tuple[int, ...], int] = {}  # first frame by spelling, of words outside the lexicon
        self._rows = np.empty((0, len(model.vocabulary)), np.float32)  # from the first unsettled frame on
        self._search = model.search(phrases, narrow=look_back is not None)

    def push(self, rows: Rows) -> None:
        """Decode log-probabilities of the next frames, shape (frames, vocabulary)."""
        best = rows.argmax(axis=1)
        if self._heard == _NEVER and len(written := self._model.writes[best].nonzero()[0]):
            self._heard = self._greedy.frame + int(written[0])
        self._rows = np.concatenate((self._rows, self._with_pauses(rows, best)))
        self._greedy.push(rows)
        self._add_unknown_words()
        self._advance(self._greedy.settled)

    def change(self, phrases: BoostedPhrases | None) -> None:
        """Boost these phrases instead, in the frames that the search has not taken yet."""
        self.phrases = phrases
        boosted = phrases or self._model.boosted({})
        self._search.change(boosted.boosts)
        if boosted.words:
            self._search.extend(boosted.words)

    def finish(self) -> None:
        """The utterance is over: all words are complete."""
        self._greedy.finish()
        self._add_unknown_words()
        self._advance(self._search.settled + len(self._rows))
        self.words += self._read(next(self._search.traces()).tokens)

    def alternatives(self, most: int) -> list[Hypothesis]:
        """The best hypotheses with different words. Call it after `finish`, and only without a look-back."""
        best = next(self._search.traces())
        if most == 1:
            return [self._hypothesis(best)]
        search = self._model.search(self.phrases, merged=False)
        for spelling, frame in self._added.items():
            search.step(self._rows[search.frame : frame])
            search.extend(self._model.unknown_words([spelling]))
        search.step(self._rows[search.frame :])
        found: dict[tuple[str, ...], Hypothesis] = {}
        for trace in (best, *search.traces()):
            if len(found) < most and trace.score <= best.score:  # `best` stays first even if this search finds better
                hypothesis = self._hypothesis(trace)
                found.setdefault(tuple(word.text for word in hypothesis.words), hypothesis)
        return list(found.values())

    def pending(self) -> list[DecodedWord]:
        """Words after the complete ones, as they would be if the utterance ended here."""
        return self.tail(self._rows[:0])

    def tail(self, rows: Rows) -> list[DecodedWord]:
        """Words after the complete ones if the utterance ended after `rows`; changes nothing."""
        if not len(self._rows) + len(rows):
            return []
        fork = BeamDecoder.__new__(BeamDecoder)
        fork.__dict__.update(self.__dict__)
        fork.words, fork._look_back = [], None
        fork._greedy, fork._checked = self._greedy.fork(), 0
        fork._added, fork._search = {**self._added}, self._search.fork()
        fork.push(rows)
        fork.finish()
        self._search.discard(fork._search)
        return fork.words

    def _with_pauses(self, rows: Rows, best: NDArray[np.intp]) -> Rows:
        """The rows, whose best tokens are `best`; where the greedy path has paused long enough to end a word, blank and
        boundary share the probability of the blank."""
        blank = self._model.vocabulary.blank
        frames = np.arange(self._greedy.frame, self._greedy.frame + len(rows))
        busy = np.maximum.accumulate(np.where(best == blank, self._busy, frames))
        self._busy = int(busy[-1]) if len(busy) else self._busy
        if len(pauses := (frames - busy == PAUSE).nonzero()[0]):
            rows = rows.copy()
            rows[pauses, blank] -= np.float32(log(2))
            rows[pauses, self._model.boundary] = rows[pauses, blank]
        return rows

    def _add_unknown_words(self) -> None:
        """Add confident words of the greedy path that the lexicon lacks to the search, from their first frame on."""
        for word in self._greedy.words[self._checked :]:
            self._checked += 1
            if (spelling := self._unknown(word)) and spelling not in self._added:
                self._advance(word.start)
                self._added[spelling] = word.start
                self._search.extend(self._model.unknown_words([spelling]))

    def _unknown(self, word: DecodedWord) -> tuple[int, ...] | None:
        """The spelling of a confident word that the lexicon lacks; None for any other word."""
        if word.confidence < self._model.weights.unknown:
            return None
        spelling = self._model.spell(word.text)
        return spelling if spelling and self._model.lacks(spelling) else None

    def _advance(self, end: int) -> None:
        """Search the rows up to a frame."""
        search = self._search
        while search.frame < end:
            stop = end if self._look_back is None else min(end, (search.frame // _SETTLE + 1) * _SETTLE)
            search.step(self._rows[search.frame - search.settled : stop - search.settled])
            if self._look_back is not None and stop % _SETTLE == 0:
                path = search.settle(_MARGIN, self._look_back)
                self.words += self._read(path, search.settled - len(path))
                self._rows = self._rows[len(path) :]

    def _read(self, tokens: NDArray[np.intp], start: int | None = None) -> list[DecodedWord]:
        """Words of a path, (frames,), over the first unsettled rows. None before the greedy path has written anything:
        the search, with its label priors, would also find words in noise."""
        if self._heard >= self._search.frame:
            return []
        decoder = GreedyDecoder(self._model.vocabulary)
        decoder.frame = self._search.settled if start is None else start
        decoder.push(self._rows[: len(tokens)], tokens)
        decoder.finish()
        return decoder.words

    def _hypothesis(self, trace: Trace) -> Hypothesis:
        words = tuple(self._read(trace.tokens))
        acoustic = float(self._rows[np.arange(len(trace.tokens)), trace.tokens].sum())
        if self._search.offsets is not None:
            acoustic += float(self._search.offsets[trace.tokens].sum())
        weights = self._model.weights
        earned = self._search.boosts.worth(self._written(trace.tokens))
        language = (trace.score - acoustic - earned - weights.word * len(words)) / weights.lm if weights.lm else 0.0
        return Hypothesis(words, trace.score, acoustic, language)

    def _written(self, tokens: NDArray[np.intp]) -> list[int]:
        """The tokens that a path writes, with one boundary after each word."""
        kept = tokens[np.append(True, tokens[1:] != tokens[:-1])] if len(tokens) else tokens
        written: list[int] = []
        for token in [*kept[kept != self._model.vocabulary.blank].tolist(), self._model.boundary]:
            if token != self._model.boundary or (written and written[-1] != self._model.boundary):
                written.append(token)
        return written


def decode_beam(rows: Rows, model: LanguageModel, most: int = 1) -> Sequence[Hypothesis]:
    """Hypotheses, the best first, of a whole utterance's log-probabilities, shape (frames, vocabulary)."""
    decoder = BeamDecoder(model)
    decoder.push(rows)
    decoder.finish()
    return decoder.alternatives(most)
