"""How a session turns log-probabilities into words and confidences.

Made once for each session, of what lies beside the checkpoint and what the session asks for. With nothing of either it
is the greedy decoder alone. What it does depends on rows and samples, never on packets or on when answers come:
what is set in mid-stream, hotwords or a grammar, holds for the live steps that hear audio from there on, and for finals
of utterances that end later.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..commands.hotwords import HotwordDecoder, favour
from ..commands.listener import CommandSpec, wake_phrase
from ..commands.matcher import Decision, Strictness, compiled
from ..commands.spotting import Phrases
from ..config import SessionConfig, read_hotwords
from ..ctc.assets import Assets
from ..ctc.beam import LIVE_LOOK_BACK, BeamDecoder, Hypothesis
from ..ctc.greedy import DecodedWord, confidence, decode
from ..ctc.vocabulary import Vocabulary
from ..errors import ConfigError

if TYPE_CHECKING:
    from ..ctc.lm import BoostedPhrases

Rows = NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Transcript:
    """The words of an utterance, and how sure they are, 0..1."""

    words: tuple[DecodedWord, ...]
    confidences: tuple[float, ...]  # of each word
    confidence: float  # of all
    hypotheses: tuple[Hypothesis, ...] = ()  # the best first, if they were asked for
    decision: Decision | None = None  # what command it is, if that was asked


Search = Callable[[Rows], Transcript]


class Hotwords(NamedTuple):
    """The same phrases for a greedy decoder and for a search; `boosted` is None where there is no language model."""

    phrases: Phrases
    boosted: BoostedPhrases | None


class LiveDecoder(Protocol):
    """See `GreedyDecoder`, which is one."""

    @property
    def words(self) -> list[DecodedWord]: ...
    def push(self, rows: Rows) -> None: ...
    def tail(self, rows: Rows) -> list[DecodedWord]: ...
    def pending(self) -> list[DecodedWord]: ...


class Timeline(Generic[T]):
    """A setting that changes in mid-stream: each value with the sample after which it holds."""

    def __init__(self, value: T) -> None:
        self._values = [(-1, value)]

    def set(self, value: T, at: int) -> None:
        """Hold after sample `at`, which is not before those of the values before."""
        if self._values[-1][0] == at:
            self._values.pop()
        self._values.append((at, value))

    def at(self, sample: int) -> T:
        return self._values[self._place(sample)][1]

    def forget(self, sample: int) -> None:
        """Nobody asks about earlier samples any more."""
        del self._values[: self._place(sample)]

    def _place(self, sample: int) -> int:
        """Of the last value that was set before a sample."""
        return max(0, bisect_left(self._values, sample, key=lambda each: each[0]) - 1)


class Decoding:
    """One session's. Raises `ConfigError` for what cannot be done with these assets, or written in this vocabulary."""

    def __init__(self, vocabulary: Vocabulary, config: SessionConfig, assets: Assets | None = None) -> None:
        assets = assets or Assets()
        model = assets.language_model if config.lm_for != "none" else None
        for wanted, name in ((config.lm_for == "all", "lm_for 'all'"), (config.nbest > 0, "nbest")):
            if wanted and model is None:
                raise ConfigError(f"{name} needs a language model, and none is in use here")
        self._vocabulary = vocabulary
        self._calibration = assets.calibration
        self._final_model = model
        self._live_model = model if config.lm_for == "all" else None
        self._nbest = config.nbest
        self._config = config
        self._wake: Phrases | None = None
        if config.wake:
            self._wake = Phrases(wake_phrase(config.wake, config.wake_score), vocabulary)
        self._hotwords = Timeline(self._make_hotwords(config.hotwords))
        self._attention = Timeline(self._make_attention(config.grammar))

    def set_hotwords(self, hotwords: Sequence[str], at: int) -> None:
        """Listen for these after sample `at`. Raises `ConfigError`; those before stay as they are."""
        self._hotwords.set(self._make_hotwords(hotwords), at)

    def _make_hotwords(self, hotwords: Sequence[str]) -> Hotwords | None:
        if not (boosts := read_hotwords(hotwords)):
            return None
        phrases = Phrases(boosts, self._vocabulary)
        return Hotwords(phrases, self._final_model.boosted(boosts) if self._final_model else None)

    def set_grammar(self, grammar: str, at: int) -> None:
        """Listen for its commands after sample `at`, for none if it is empty. Raises `GrammarError`; then the one
        before stays.
        """
        self._attention.set(self._make_attention(grammar), at)

    def _make_attention(self, grammar: str) -> CommandSpec | None:
        if not grammar.strip():
            return None
        config = self._config
        strictness = Strictness(score=config.command_score, word_score=config.command_word_score)
        return CommandSpec(compiled(grammar, self._vocabulary), strictness, self._wake, config.command_alternatives)

    def attention(self, sample: int) -> CommandSpec | None:
        """What is listened for by who hears up to a sample; None for no commands."""
        return self._attention.at(sample)

    def begin(self, start: int) -> LiveDecoder:
        """The decoder of live steps of an utterance that begins at a sample; no other begins before it any more."""
        self._hotwords.forget(start)
        self._attention.forget(start)
        hotwords = self._hotwords.at(start)
        if self._live_model:
            return BeamDecoder(self._live_model, look_back=LIVE_LOOK_BACK, phrases=hotwords and hotwords.boosted)
        return HotwordDecoder(self._vocabulary, hotwords and hotwords.phrases)

    def follow(self, decoder: LiveDecoder, heard: int) -> None:
        """The next rows are of a step that hears up to sample `heard`."""
        hotwords = self._hotwords.at(heard)
        if isinstance(decoder, BeamDecoder):
            if (boosted := hotwords and hotwords.boosted) is not decoder.phrases:
                decoder.change(boosted)
        elif isinstance(decoder, HotwordDecoder) and (phrases := hotwords and hotwords.phrases) is not decoder.phrases:
            decoder.change(phrases)

    def final(self, end: int, *, awake: bool | None = None) -> Search:
        """How to decode the rows of a whole utterance that ends at a sample. May be called in any thread.

        `awake` as in `CommandSpec.hear`; None where no command is to be found.
        """
        attention = None if awake is None else self.attention(end)
        return partial(self._search, self._hotwords.at(end), attention, bool(awake))

    def slow(self, end: int) -> bool:
        """Whether `final` takes long enough for others to notice."""
        return not (self._final_model is self._hotwords.at(end) is self.attention(end) is None)

    @property
    def slow_live(self) -> bool:
        """Whether live steps take so long."""
        return self._live_model is not None

    def live(self, words: Sequence[DecodedWord]) -> Transcript:
        """Words of live steps: what comes after a word does not change its confidence."""
        return self._transcript(words, self._calibration and self._calibration.of_partial(words))

    def _search(self, hotwords: Hotwords | None, attention: CommandSpec | None, awake: bool, rows: Rows) -> Transcript:
        heard = self._read(hotwords, rows)
        if attention is None:
            return heard
        favoured = favour(rows, hotwords.phrases) if hotwords else rows
        return replace(heard, decision=attention.decide(favoured, awake=awake))

    def _read(self, hotwords: Hotwords | None, rows: Rows) -> Transcript:
        greedy = words = decode(rows, self._vocabulary)
        if self._final_model:
            beam = BeamDecoder(self._final_model, phrases=hotwords and hotwords.boosted)
            beam.push(rows)
            beam.finish()
            known = self._calibration and self._calibration.of_beam(beam.words, greedy)
            return self._transcript(beam.words, known, beam.alternatives(self._nbest) if self._nbest else ())
        if hotwords:
            decoder = HotwordDecoder(self._vocabulary, hotwords.phrases)
            decoder.push(rows)
            decoder.finish()
            words = decoder.words
        return self._transcript(words, self._calibration and self._calibration.of_final(words, greedy))

    def _transcript(
        self, words: Sequence[DecodedWord], calibrated: list[float] | None, hypotheses: Sequence[Hypothesis] = ()
    ) -> Transcript:
        """`calibrated` confidences of the words, whose mean is that of all; None without a calibration."""
        if calibrated is None:
            raw = tuple(word.confidence for word in words)
            return Transcript(tuple(words), raw, confidence(words), tuple(hypotheses))
        mean = sum(calibrated) / len(calibrated) if calibrated else 0.0
        return Transcript(tuple(words), tuple(calibrated), mean, tuple(hypotheses))
