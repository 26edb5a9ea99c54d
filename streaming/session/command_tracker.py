"""Which command an utterance is: certain early in a live step, or decided at the end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..commands.decision import Decision
from ..commands.listener import CommandSpec
from .decoding import Decoding
from .step_decoder import Step
from .transcript import Transcript


class CommandTracker:
    """One utterance's. `awake` says whether the wake phrase, if there is one, came before it.

    A grammar that comes in the middle of an utterance finds its commands in the final only.
    """

    def __init__(self, decoding: Decoding, *, awake: bool) -> None:
        self.awake = awake
        self._decoding = decoding
        self._spec: CommandSpec | None = None  # of the first live step
        self._early: Decision | None = None  # stands, whatever the second pass finds
        self._committed: list[NDArray[np.float32]] = []  # rows of the live steps, if there are commands
        self._volatile: NDArray[np.float32] | None = None  # rows of the last one

    def spec(self, step: int, end_sample: int) -> CommandSpec | None:
        """The commands to find early in a live step; None once they changed."""
        spec = self._decoding.commands(end_sample)
        if step == 0:
            self._spec = spec
        return spec if spec is self._spec else None

    def add(self, step: Step) -> None:
        """Take the next decoded live step."""
        if self._spec is not None:
            self._committed.append(step.stitched.committed)
            self._volatile = step.stitched.volatile
        self._early = self._early or step.decision

    @property
    def undecided(self) -> bool | None:
        """`awake` for the second pass; None where it need not look for a command."""
        return None if self._early else self.awake

    def decide_live(self, end_sample: int, end_frame: int) -> Decision | None:
        """The decision from the rows of the live steps, for a final made of them."""
        spec = self._decoding.commands(end_sample)
        if self._early or spec is None or self._volatile is None:
            return None
        rows = np.concatenate((*self._committed, self._volatile))[:end_frame]
        return spec.decide(rows, awake=self.awake)

    def decide(self, end_sample: int, transcript: Transcript) -> Decision | None:
        """The decision at the end of the utterance; None without commands, or after an early decision."""
        if self._early or not self._decoding.commands(end_sample):
            return None
        return transcript.decision or Decision(False, None, 0)
