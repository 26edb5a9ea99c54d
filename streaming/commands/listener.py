"""Listens for a command and, if there is one, for the wake phrase before it.

    rows ─┬─▶ spotter ── end of the wake phrase ─▶ starts or restarts the matcher
          └─▶ matcher ─▶ decision

A `CommandListener` is one pass over one utterance: one follows the live steps and may decide early, another takes the
rows of the second pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log

import numpy as np

from .compiled import CompiledGrammar
from .decision import Decision, Strictness
from .matcher import CommandMatcher
from .spotting import Phrases, Spotter
from .viterbi import Rows


@dataclass(frozen=True, slots=True, eq=False)
class CommandSpec:
    """What a session listens for, the same for all its utterances. `others`: see `CommandMatcher.finish`."""

    grammar: CompiledGrammar
    strictness: Strictness
    wake: Phrases | None = None
    others: int = 0

    def listen(self, *, awake: bool, early: bool) -> CommandListener:
        """A pass over an utterance, from its first frame; `awake` if the wake phrase came before the utterance."""
        return CommandListener(self, awake=awake, early=early)

    def decide(self, rows: Rows, *, awake: bool) -> Decision:
        """The decision on a complete utterance, (frames, vocabulary)."""
        listener = self.listen(awake=awake, early=False)
        listener.push(rows)
        return listener.finish()


def wake_phrase(phrase: str, score: float) -> dict[str, float]:
    """The boost for `Phrases` with which the phrase is found at this score and above."""
    return {phrase: -log(score)}


class CommandListener:
    """One pass over one utterance: `push` its rows as they arrive, then `finish`."""

    def __init__(self, spec: CommandSpec, *, awake: bool, early: bool) -> None:
        self._spec = spec
        self._early = early
        self._spotter = Spotter(spec.wake, eager=True) if spec.wake else None
        self._matcher = self._new_matcher(0) if awake or self._spotter is None else None
        self._woken: int | None = None  # end frame of the last wake phrase
        self._rows: list[Rows] = []  # of one frame each, kept until a wake phrase ends
        self._frame = 0

    def _new_matcher(self, frame: int) -> CommandMatcher:
        return CommandMatcher(self._spec.grammar, self._spec.strictness, early=self._early, frame=frame)

    def push(self, rows: Rows) -> Decision | None:
        """Take log-probabilities of the next frames, (frames, vocabulary); return an early decision."""
        self._frame += len(rows)
        if self._spotter is None:
            return self._matcher.push(rows) if self._matcher else None
        decision: Decision | None = None
        for at in range(len(rows)):  # one by one: the result must not depend on how rows are split
            row = rows[at : at + 1]
            self._rows.append(row)
            if self._matcher:
                decision = decision or self._matcher.push(row)
            if found := self._spotter.push(row):
                decision = decision or self._wake(found[-1].path.end)
        return decision

    def fork(self) -> CommandListener:
        """An independent copy."""
        fork = CommandListener.__new__(CommandListener)
        fork._spec, fork._early = self._spec, self._early
        fork._spotter = self._spotter.fork() if self._spotter else None
        fork._matcher = self._matcher.fork() if self._matcher else None
        fork._woken, fork._rows, fork._frame = self._woken, list(self._rows), self._frame
        return fork

    def finish(self) -> Decision:
        """The utterance is over."""
        if self._spotter and (found := self._spotter.finish()):
            self._wake(found[-1].path.end)
        if self._matcher is None:
            return Decision(False, None, self._frame, asleep=True)
        return replace(self._matcher.finish(self._spec.others), woken=self._woken)

    def _wake(self, frame: int) -> Decision | None:
        """Match the speech after a frame, unless the command is already decided."""
        if self._matcher and self._matcher.decision:
            return None
        self._woken, self._matcher = frame, self._new_matcher(frame)
        return self._matcher.push(np.concatenate(self._rows[frame:])) if self._rows[frame:] else None
