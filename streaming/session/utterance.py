"""One utterance: live steps while it is spoken, and the second pass over all of it at its end.

Its jobs and its results depend on its samples alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..audio.normalize import EPSILON, Moments
from ..audio.pauses import PauseEvidence
from ..commands.decision import Decision
from ..config import SessionConfig
from ..frames import STRIDE, frames, ms
from ..overload import Level
from ..requests import CacheHandle, Job
from .command_tracker import CommandTracker
from .decoding import Decoding
from .endpoint import Cut
from .final_pass import FinalPass
from .live_pass import LivePass
from .step_decoder import Step
from .transcript import Transcript
from .utterance_context import UtteranceContext

CHECKED: Final = ms(3_000)  # audio before a pause that evidence comes from: enough words for an n-gram


class Utterance:
    """Begins at sample `start` of the audio that `read(start, end)` returns; `next_id` numbers its jobs.

    `normalized` says whether the checkpoint requires zero mean and unit variance, with `epsilon`; `seed` carries the
    loudness over from earlier utterances. `level` is that of the service at the start. `awake` says whether the wake
    phrase came before.
    """

    def __init__(
        self,
        index: int,
        start: int,
        config: SessionConfig,
        decoding: Decoding,
        *,
        read: Callable[[int, int], NDArray[np.float32]],
        next_id: Callable[[], int],
        normalized: bool,
        epsilon: float = EPSILON,
        seed: Moments | None = None,
        level: Level = Level.NORMAL,
        awake: bool = False,
    ) -> None:
        self.index = index
        self.start = start
        self.end: int | None = None  # once it is certain
        self._config = config
        self.decoding = decoding
        self._jobs: list[Job] = []
        self._commands = CommandTracker(decoding, awake=awake)
        context = UtteranceContext(
            index, start, config, decoding, self._commands, read, next_id, self._jobs.append, normalized, epsilon
        )
        self._live = LivePass(context, seed=seed, level=level)
        self._final = FinalPass(context)
        self._window = FinalPass(context)  # over the last seconds before a pause
        self._check = self._final  # brings the evidence on the pause

    @property
    def cut(self) -> Cut | None:
        """Why and where it ended although the gate was open."""
        return self._live.cut

    @property
    def cache(self) -> CacheHandle | None:
        """Of the encoder, in cached mode."""
        return self._live.cache

    def plan(
        self,
        *,
        known: int,
        likely_end: int | None,
        closed: int | None,
        now: float,
        level: Level = Level.NORMAL,
        paused: bool = False,
    ) -> list[Job]:
        """Return the jobs that are due.

        The utterance has at least the audio up to sample `known`. It ends at `likely_end` if the silence lasts, and at
        `closed` at the latest, if the gate has closed. While the gate is `paused`, it waits for `evidence`.
        """
        flush = (closed is not None or paused) and (level < Level.FINALS or self._final_is_live)
        self._live.plan(known, now, level, flush=flush)
        self.end = closed if self.cut is None else self.start + self.cut.frame * STRIDE
        end = likely_end if self.end is None else self.end
        if self.end is not None and self._final_is_live:
            self._live.plan_rest(self.end, now)
        elif self.end is None and paused and likely_end is not None:
            self._plan_check(likely_end, now)
        elif end is not None and end != self._final.end and not self._config.appends:
            # The result for a likely end has time until the hangover is over, and may be of no use.
            config = self._config
            hangover_ms = config.least_hangover_ms if config.endpointing == "adaptive" else config.hangover_ms
            deadline = now if self.end is not None else now + hangover_ms / 3000
            self._final.plan(end, deadline, self._live.cached_features(frames(end - self.start)))
        jobs = self._jobs.copy()
        self._jobs.clear()
        return jobs

    def _plan_check(self, end: int, now: float) -> None:
        """Request the pass that brings the evidence on the pause at `end`, once."""
        start = self.start if self.decoding.commands(end) else max(self.start, end - CHECKED)
        if start == self.start and not self._config.appends:
            self._check, features = self._final, self._live.cached_features(frames(end - start))
        else:
            self._check, features = self._window, None
        if self._check.end != end:
            self._check.plan(end, now, features, start=start, pause=True)

    @property
    def evidence(self) -> PauseEvidence | None:
        """On the pause for which `plan` was called last; None until all earlier steps are there too: one of them may
        end the utterance.
        """
        return None if self._live.busy or self.end is not None else self._check.pause

    @property
    def _final_is_live(self) -> bool:
        """Whether the final is made of the live steps: by choice, or because the second pass failed."""
        return self._config.appends or (self._final.failed and self._final.end == self.end)

    def wants(self, job: int) -> bool:
        """Whether the answer to a job still matters."""
        return self._live.wants(job) or self._final.wants(job) or self._window.wants(job)

    def receive(self, job: int, answer: object) -> Sequence[Step]:
        """Take the answer to a job that `wants` it; return the live steps now complete, in order."""
        if self._live.wants(job):
            return self._live.receive(job, answer)
        self._pass_of(job).receive(answer)
        return ()

    def fail(self, job: int) -> None:
        """Take the failure of a job: the utterance goes on with the other results."""
        if self._live.wants(job):
            self._live.fail()
        else:
            self._pass_of(job).fail()

    def _pass_of(self, job: int) -> FinalPass:
        return self._final if self._final.wants(job) else self._window

    @property
    def transcript(self) -> Transcript | None:
        """The final's; None until the end is certain and all answers are there."""
        if self.end is None or self._live.busy:
            return None
        if self._final_is_live:
            end = frames(self.end - self.start)
            words = self.decoding.live(self._live.words(end + 1))
            return replace(words, decision=self._commands.decide_live(self.end, end))
        return self._final.transcript if self._final.end == self.end else None

    def decision(self, transcript: Transcript) -> Decision | None:
        """The command decision at the end, where there is a grammar; None after an early one."""
        return None if self.end is None else self._commands.decide(self.end, transcript)
