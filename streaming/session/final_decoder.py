"""Decoding of the second pass: all rows of an utterance at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..commands.hotwords import HotwordDecoder, HotwordSet, favour
from ..commands.listener import CommandSpec
from ..ctc.assets import Assets
from ..ctc.beam import BeamDecoder, Hypothesis
from ..ctc.greedy import DecodedWord, decode
from ..ctc.vocabulary import Vocabulary
from .ending import PauseCheck
from .transcript import Transcript, make_transcript

Rows = NDArray[np.float32]

LEAST: Final = 0.1  # calibrated confidence that at least one word must have; without one, the utterance is noise


@dataclass(frozen=True, slots=True)
class FinalDecoder:
    """Decodes the rows of an utterance, (frames, vocabulary). Any thread may call it: it changes nothing."""

    vocabulary: Vocabulary
    assets: Assets  # its language model is the one to use
    nbest: int  # hypotheses to keep
    hotwords: HotwordSet | None
    spec: CommandSpec | None  # commands to find
    awake: bool  # as in `CommandSpec.listen`
    check: PauseCheck | None = None  # if the rows end in a pause

    @property
    def slow(self) -> bool:
        """Whether a call would hold up an event loop."""
        return self.assets.language_model is not None or self.hotwords is not None or self._finds_commands

    @property
    def _finds_commands(self) -> bool:
        return self.spec is not None or (self.check is not None and self.check.spec is not None)

    def __call__(self, rows: Rows) -> Transcript:
        transcript = self._transcribe(rows)
        favoured = favour(rows, self.hotwords.phrases) if self.hotwords and self._finds_commands else rows
        if self.check is not None:
            transcript = replace(transcript, pause=self.check(favoured, transcript.words))
        if self.spec is None:
            return transcript
        return replace(transcript, decision=self.spec.decide(favoured, awake=self.awake))

    def _transcribe(self, rows: Rows) -> Transcript:
        greedy = words = decode(rows, self.vocabulary)
        calibration, model, hotwords = self.assets.calibration, self.assets.language_model, self.hotwords
        if model:
            beam = BeamDecoder(model, phrases=hotwords and hotwords.boosted)
            beam.push(rows)
            beam.finish()
            calibrated = calibration and calibration.of_beam(beam.words, greedy)
            return _heard(beam.words, calibrated, beam.alternatives(self.nbest) if self.nbest else ())
        if hotwords:
            decoder = HotwordDecoder(self.vocabulary, hotwords.phrases)
            decoder.push(rows)
            decoder.finish()
            words = decoder.words
        return _heard(words, calibration and calibration.of_final(words, greedy))


def _heard(
    words: Sequence[DecodedWord], calibrated: Sequence[float] | None, hypotheses: Sequence[Hypothesis] = ()
) -> Transcript:
    """The transcript; without words if each is wrong more than nine times in ten. A cough is then no word."""
    if calibrated and max(calibrated) < LEAST:
        return make_transcript((), ())
    return make_transcript(words, calibrated, hypotheses)
