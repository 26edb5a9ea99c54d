"""What the rows of a pass up to a pause say about it: whether the sentence, or the command, is over there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..audio.pauses import PauseEvidence
from ..commands.listener import CommandSpec
from ..ctc.greedy import DecodedWord
from ..ctc.lm import LanguageModel
from ..ctc.vocabulary import Vocabulary
from ..frames import STRIDE

Rows = NDArray[np.float32]

SURE: Final = 0.9  # least probability that a frame writes nothing
# The language model's log10 probability of the end of the sentence, relative to that of a typical end, as log-odds.
# Fitted on pauses of training recordings. Recognition errors make it weak evidence, so its range is limited.
TYPICAL_END: Final = -2.0
LEAST_END: Final = -4.0
WEIGHT: Final = 0.7


@dataclass(frozen=True, slots=True)
class PauseCheck:
    """Looks for evidence on the pause after some rows. Any thread may call it: it changes nothing."""

    vocabulary: Vocabulary
    model: LanguageModel | None
    spec: CommandSpec | None = None  # commands; the rows are then those of the whole utterance
    awake: bool = False  # as in `CommandSpec.listen`

    def __call__(self, rows: Rows, words: Sequence[DecodedWord]) -> PauseEvidence:
        """The evidence of log-probabilities up to a pause, (frames, vocabulary), and of their words."""
        odds = None if self.spec is None else _command_odds(rows, self.spec, awake=self.awake)
        if odds is None:
            end = self.model.sentence_end([word.text for word in words]) if self.model and words else None
            odds = 0.0 if end is None else WEIGHT * (max(end, LEAST_END) - TYPICAL_END)
        return PauseEvidence(odds, _blank_frames(rows, self.vocabulary) * STRIDE)


def _command_odds(rows: Rows, spec: CommandSpec, *, awake: bool) -> float | None:
    """Certainly over if no other command can follow, certainly not in the middle of one; else None."""
    listener = spec.listen(awake=awake, early=True)
    if listener.push(rows) is not None:
        return inf
    decision = listener.finish()
    if decision.asleep or decision.accepted:
        return None
    return -inf


def _blank_frames(rows: Rows, vocabulary: Vocabulary) -> int:
    """Frames at the end that surely write nothing."""
    writes = np.flatnonzero(np.exp(rows[:, np.flatnonzero(vocabulary.silent)]).sum(axis=1) < SURE)
    return len(rows) - (int(writes[-1]) + 1 if len(writes) else 0)
