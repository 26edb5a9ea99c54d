"""What a session with a grammar listens for: a command, and before it the wake phrase where there is one.

    rows ─┬─▶ spotter ── the wake phrase ends ─▶ begins the listener, or begins it again
          └─▶ listener ─▶ decision

`CommandListener` is one pass over one utterance: one follows its live steps and may decide early, another takes the
rows of the second pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log

import numpy as np

from .matcher import Commands, Decision, Listener, Strictness
from .spotting import Phrases, Spotter
from .viterbi import Rows


@dataclass(frozen=True, slots=True, eq=False)
class CommandSpec:
    """Made once for all utterances. `others` as in `Listener.finish`."""

    commands: Commands
    strictness: Strictness
    wake: Phrases | None = None
    others: int = 0

    def hear(self, *, awake: bool, early: bool) -> CommandListener:
        """A pass over an utterance, from its first frame; `awake` says whether the wake phrase was said before it."""
        return CommandListener(self, awake=awake, early=early)

    def decide(self, rows: Rows, *, awake: bool) -> Decision:
        """Of an utterance's rows, (frames, vocabulary)."""
        hearing = self.hear(awake=awake, early=False)
        hearing.push(rows)
        return hearing.finish()


def wake_phrase(phrase: str, score: float) -> dict[str, float]:
    """The phrase as `Phrases` wants it: found where its score is at least that."""
    return {phrase: -log(score)}


class CommandListener:
    """One pass over one utterance: `push` its rows as they come, then `finish`."""

    def __init__(self, attention: CommandSpec, *, awake: bool, early: bool) -> None:
        self._attention = attention
        self._early = early
        self._spotter = Spotter(attention.wake, eager=True) if attention.wake else None
        self._listener = self._listen(0) if awake or self._spotter is None else None
        self._woken: int | None = None  # frame in which the last wake phrase ended
        self._rows: list[Rows] = []  # of one frame each, kept for a wake phrase to come
        self._frame = 0

    def _listen(self, frame: int) -> Listener:
        return Listener(self._attention.commands, self._attention.strictness, early=self._early, frame=frame)

    def push(self, rows: Rows) -> Decision | None:
        """Take log-probabilities of the next frames, (frames, vocabulary); return a decision that is made early."""
        self._frame += len(rows)
        if self._spotter is None:
            return self._listener.push(rows) if self._listener else None
        made: Decision | None = None
        for at in range(len(rows)):  # one by one, so that it does not matter how they come
            row = rows[at : at + 1]
            self._rows.append(row)
            if self._listener:
                made = made or self._listener.push(row)
            if found := self._spotter.push(row):
                made = made or self._wake(found[-1].path.end)
        return made

    def fork(self) -> CommandListener:
        """A copy that goes its own way."""
        fork = CommandListener.__new__(CommandListener)
        fork._attention, fork._early = self._attention, self._early
        fork._spotter = self._spotter.fork() if self._spotter else None
        fork._listener = self._listener.fork() if self._listener else None
        fork._woken, fork._rows, fork._frame = self._woken, list(self._rows), self._frame
        return fork

    def finish(self) -> Decision:
        """The utterance is over."""
        if self._spotter and (found := self._spotter.finish()):
            self._wake(found[-1].path.end)
        if self._listener is None:
            return Decision(False, None, self._frame, asleep=True)
        return replace(self._listener.finish(self._attention.others), woken=self._woken)

    def _wake(self, frame: int) -> Decision | None:
        """Listen to what was said after a frame, unless the command is already known."""
        if self._listener and self._listener.decision:
            return None
        self._woken, self._listener = frame, self._listen(frame)
        return self._listener.push(np.concatenate(self._rows[frame:])) if self._rows[frame:] else None
