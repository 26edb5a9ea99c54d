"""Words of one utterance by beam search with a language model; used like `greedy.GreedyDecoder`.

The search stays behind the greedy path: it takes the frames of a word only when that word is complete. So a word that
the lexicon lacks can take part in the very frames in which it was spoken: spelled as the greedy path has it, if that is
confident enough, and scored by the language model as its rarest word. What the search knows depends on the rows alone,
not on how they were split.

Without a look-back all hypotheses live until the utterance ends, as a final wants it. With one, words become complete
as soon as all likely hypotheses share them, at the latest after the look-back; hypotheses without them are dropped.
Memory and the cost of a tail are then bounded.

Words, times and confidences are those of the best hypothesis' own path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from .greedy import DecodedWord, GreedyDecoder

if TYPE_CHECKING:
    from .lm import BoostedPhrases, LanguageModel
    from .search import Trace

Rows = NDArray[np.float32]

LIVE_LOOK_BACK: Final = 100  # frames after which words of partials become complete

_SETTLE: Final = 8  # frames between two looks at what is shared
_MARGIN: Final = 5.0  # nats: hypotheses less likely than that do not keep a word open


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """`score` is what the search maximises: `acoustic` + LM weight x `language` (log10) + word score x words, and what
    boosted phrases have earned."""

    words: tuple[DecodedWord, ...]
    score: float
    acoustic: float
    language: float


class BeamDecoder:
    """Words of one utterance. `push` what is committed; ask `tail` what volatile rows would add.

    `look_back` is in frames; None: words are complete when the utterance is.
    """

    def __init__(
        self, model: LanguageModel, *, look_back: int | None = None, phrases: BoostedPhrases | None = None
    ) -> None:
        self.words: list[DecodedWord] = []  # complete and final
        self.phrases = phrases
        self._model = model
        self._look_back = look_back
        self._greedy = GreedyDecoder(model.vocabulary)
        self._known = 0  # complete words of the greedy path that the search may use
        self._strangers: dict[tuple[int, ...], int] = {}  # spellings, and the frame from which they take part
        self._rows = np.empty((0, len(model.vocabulary)), np.float32)  # those that are not complete
        self._search = model.search(phrases, narrow=look_back is not None)

    def push(self, rows: Rows) -> None:
        """Decode log-probabilities of the next frames, shape (frames, vocabulary)."""
        self._greedy.push(rows)
        self._rows = np.concatenate((self._rows, rows))
        self._follow()
        self._advance(self._greedy.settled)

    def change(self, phrases: BoostedPhrases | None) -> None:
        """Favour these phrases from the frames on that the search has not taken."""
        self.phrases = phrases
        fresh = phrases or self._model.boosted({})
        self._search.change(fresh.boosts)
        if fresh.words:
            self._search.extend(fresh.words)

    def finish(self) -> None:
        """The utterance is over: all words are complete."""
        self._greedy.finish()
        self._follow()
        self._advance(self._search.settled + len(self._rows))
        self.words += self._read(next(self._search.traces()).tokens)

    def alternatives(self, most: int) -> list[Hypothesis]:
        """Of a whole utterance, after `finish` and without a look-back: the best hypotheses with different words."""
        best = next(self._search.traces())
        if most == 1:
            return [self._hypothesis(best)]
        search = self._model.search(self.phrases, merged=False)
        for spelling, frame in self._strangers.items():
            search.step(self._rows[search.frame : frame])
            search.extend(self._model.strangers([spelling]))
        search.step(self._rows[search.frame :])
        found: dict[tuple[str, ...], Hypothesis] = {}
        for trace in (best, *search.traces()):
            if len(found) < most and trace.score <= best.score:  # whatever the narrower search finds, this is the best
                heard = self._hypothesis(trace)
                found.setdefault(tuple(word.text for word in heard.words), heard)
        return list(found.values())

    def pending(self) -> list[DecodedWord]:
        """Words after the complete ones, as far as they are known."""
        return self.tail(self._rows[:0])

    def tail(self, rows: Rows) -> list[DecodedWord]:
        """Words after the complete ones if `rows` came next and the utterance ended there; changes nothing."""
        if not len(self._rows) + len(rows):
            return []
        fork = BeamDecoder.__new__(BeamDecoder)
        fork.__dict__.update(self.__dict__)
        fork.words, fork._look_back = [], None
        fork._greedy, fork._known = self._greedy.fork(), 0
        fork._strangers, fork._search = {**self._strangers}, self._search.fork()
        fork.push(rows)
        fork.finish()
        self._search.discard(fork._search)
        return fork.words

    def _follow(self) -> None:
        """Let new words of the greedy path take part that the lexicon lacks."""
        for word in self._greedy.words[self._known :]:
            self._known += 1
            if (spelling := self._stranger(word)) and spelling not in self._strangers:
                self._advance(word.start)
                self._strangers[spelling] = word.start
                self._search.extend(self._model.strangers([spelling]))

    def _stranger(self, word: DecodedWord) -> tuple[int, ...] | None:
        """Its spelling, if the lexicon lacks the word and it was confident enough."""
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
        """Words of a path, (frames,), over the first of the rows that are not complete."""
        decoder = GreedyDecoder(self._model.vocabulary)
        decoder.frame = self._search.settled if start is None else start
        decoder.push(self._rows[: len(tokens)], tokens)
        decoder.finish()
        return decoder.words

    def _hypothesis(self, trace: Trace) -> Hypothesis:
        words = tuple(self._read(trace.tokens))
        acoustic = float(self._rows[np.arange(len(trace.tokens)), trace.tokens].sum())
        weights = self._model.weights
        earned = self._search.boosts.worth(self._written(trace.tokens))
        language = (trace.score - acoustic - earned - weights.word * len(words)) / weights.lm if weights.lm else 0.0
        return Hypothesis(words, trace.score, acoustic, language)

    def _written(self, tokens: NDArray[np.intp]) -> list[int]:
        """What the path writes, with one boundary after each word."""
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
