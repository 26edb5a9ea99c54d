"""How a session decodes log-probabilities: its hotwords, commands, language model and calibration.

Results depend on rows and samples, never on packets or on the order of answers. Hotwords and grammars may change during
the stream: a change applies to live steps and utterances that end after its sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..commands.compiled import compiled
from ..commands.decision import Strictness
from ..commands.hotwords import HotwordDecoder, HotwordSet
from ..commands.listener import CommandSpec, wake_phrase
from ..commands.spotting import Phrases
from ..config import SessionConfig, read_hotwords
from ..ctc.assets import Assets
from ..ctc.beam import LIVE_LOOK_BACK, BeamDecoder
from ..ctc.greedy import DecodedWord
from ..ctc.vocabulary import Vocabulary
from ..errors import ConfigError
from .ending import PauseCheck
from .final_decoder import FinalDecoder
from .timeline import Timeline
from .transcript import Transcript, make_transcript

Rows = NDArray[np.float32]


class LiveDecoder(Protocol):
    """Decodes live steps one after the other; `GreedyDecoder` explains the methods."""

    @property
    def words(self) -> list[DecodedWord]: ...
    def push(self, rows: Rows) -> None: ...
    def tail(self, rows: Rows) -> list[DecodedWord]: ...
    def pending(self) -> list[DecodedWord]: ...


class Decoding:
    """One session's decoding in one language, as the checkpoint names it; None where it has only one, without a name.

    Raises `ConfigError` for settings that these assets or this vocabulary rule out.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        config: SessionConfig,
        assets: Assets | None = None,
        *,
        language: str | None = None,
    ) -> None:
        assets = assets or Assets()
        self.vocabulary = vocabulary
        self.language = language
        model = assets.language_model if config.lm_for != "none" else None
        for wanted, name in ((config.lm_for == "all", "lm_for 'all'"), (config.nbest > 0, "nbest")):
            if wanted and model is None:
                raise ConfigError(f"{name} needs a language model, and none is in use here")
        self._assets = replace(assets, language_model=model)
        everywhere = config.lm_for == "all" or (config.lm_for == "auto" and assets.lm_in_partials)
        self._live_model = model if everywhere else None
        self._config = config
        self._notes: list[str] = []
        self._wake: Phrases | None = None
        if config.wake:
            self._wake = Phrases(wake_phrase(config.wake, config.wake_score), vocabulary)
            self._notes += self._wake.notes
        hotwords = self.make_hotwords(config.hotwords)
        self._notes += _notes(hotwords)
        self._hotwords = Timeline(hotwords)
        self._commands = Timeline(self._make_spec(config.grammar))

    def make_hotwords(self, hotwords: Sequence[str]) -> HotwordSet | None:
        """Compile hotwords for `set_hotwords`; None if there are none. Raises `ConfigError`."""
        if not (boosts := read_hotwords(hotwords)):
            return None
        model = self._assets.language_model
        return HotwordSet(Phrases(boosts, self.vocabulary), model.boosted(boosts) if model else None)

    def set_hotwords(self, hotwords: HotwordSet | None, at: int) -> None:
        """Replace the hotwords after sample `at`."""
        self._notes += _notes(hotwords)
        self._hotwords.set(hotwords, at)

    def set_grammar(self, grammar: str, at: int) -> None:
        """Replace the grammar after sample `at`; an empty one has no commands. Raises `GrammarError`; then the earlier
        one stays.
        """
        self._commands.set(self._make_spec(grammar), at)

    def hotwords(self, sample: int) -> HotwordSet | None:
        """The hotwords for audio that ends at a sample."""
        return self._hotwords.at(sample)

    def commands(self, sample: int) -> CommandSpec | None:
        """Commands for audio that ends at a sample."""
        return self._commands.at(sample)

    def take_notes(self) -> list[str]:
        """Notes for the client since the last call: phrases and words that the vocabulary writes with other letters."""
        notes, self._notes = self._notes, []
        return notes

    def forget(self, sample: int) -> None:
        """Drop settings that hold only before a sample: no later utterance begins before it."""
        self._hotwords.forget(sample)
        self._commands.forget(sample)

    def begin(self, start: int) -> LiveDecoder:
        """Make the decoder of live steps of an utterance that begins at a sample."""
        hotwords = self._hotwords.at(start)
        if self._live_model:
            return BeamDecoder(self._live_model, look_back=LIVE_LOOK_BACK, phrases=hotwords and hotwords.boosted)
        return HotwordDecoder(self.vocabulary, hotwords and hotwords.phrases)

    @property
    def live_is_slow(self) -> bool:
        """Whether decoding a live step would hold up an event loop."""
        return self._live_model is not None

    def live(self, words: Sequence[DecodedWord]) -> Transcript:
        """Transcript of words from live steps: later words do not change a word's confidence."""
        calibration = self._assets.calibration
        if calibration is None:
            return make_transcript(words, None)
        return make_transcript(
            words, calibration.of_beam_partial(words) if self._live_model else calibration.of_partial(words)
        )

    def final(self, end: int, *, awake: bool | None = None) -> FinalDecoder:
        """The decoder of a whole utterance that ends at a sample.

        `awake` as in `CommandSpec.listen`; None finds no command.
        """
        spec = None if awake is None else self.commands(end)
        return FinalDecoder(
            self.vocabulary, self._assets, self._config.nbest, self.hotwords(end), spec, awake=bool(awake)
        )

    def at_pause(self, end: int, *, awake: bool | None, whole: bool, awake_before: bool) -> FinalDecoder:
        """The decoder of a pass that ends in a pause, with evidence on it; `whole` if it begins with the utterance.

        `awake` is as for `final`; `awake_before` says whether the wake phrase came before the utterance.
        """
        spec = self.commands(end) if whole else None
        check = PauseCheck(self.vocabulary, self._assets.language_model, spec, awake_before)
        return replace(self.final(end, awake=awake if whole else None), check=check)

    def _make_spec(self, grammar: str) -> CommandSpec | None:
        if not grammar.strip():
            return None
        config = self._config
        strictness = Strictness(score=config.command_score, word_score=config.command_word_score)
        found = compiled(grammar, self.vocabulary)
        self._notes += found.notes
        return CommandSpec(found, strictness, self._wake, config.command_alternatives)


def _notes(hotwords: HotwordSet | None) -> list[str]:
    return hotwords.phrases.notes if hotwords else []


def set_hotwords(decoder: LiveDecoder, hotwords: HotwordSet | None) -> None:
    """Let a decoder of live steps favour these hotwords from its next rows on."""
    if isinstance(decoder, BeamDecoder):
        if (boosted := hotwords and hotwords.boosted) is not decoder.phrases:
            decoder.change(boosted)
    elif isinstance(decoder, HotwordDecoder) and (phrases := hotwords and hotwords.phrases) is not decoder.phrases:
        decoder.change(phrases)
