"""The second pass over an utterance: all of it at once, with full context, at its end.

With adaptive endpointing a pass is also the source of the evidence on a pause: the second pass itself for a short
utterance, else one over the last seconds before the pause.
"""

from __future__ import annotations

from enum import Enum, auto

import numpy as np

from ..audio.normalize import normalize
from ..audio.pauses import PauseEvidence
from ..frames import frames
from ..requests import CachedFeatures, DecodeJob, Request
from .final_decoder import FinalDecoder
from .transcript import Transcript
from .utterance_context import UtteranceContext


class FinalState(Enum):
    """How far the second pass of an utterance is."""

    IDLE = auto()
    ENCODING = auto()
    DECODING = auto()
    DONE = auto()
    FAILED = auto()


class FinalPass:
    """Starts during the hangover for a likely end, so that the result is there in time; a new end starts it again."""

    def __init__(self, context: UtteranceContext) -> None:
        self.end = -1  # sample up to which it reads
        self.transcript: Transcript | None = None
        self._context = context
        self._state = FinalState.IDLE
        self._job = -1
        self._start = context.start
        self._deadline = 0.0
        self._in_pause = False

    @property
    def failed(self) -> bool:
        return self._state is FinalState.FAILED

    def plan(
        self,
        end: int,
        deadline: float,
        features: CachedFeatures | None,
        *,
        start: int | None = None,
        pause: bool = False,
    ) -> None:
        """Request the pass over the utterance up to sample `end`; `features` are those that it may reuse.

        With `start` the pass begins there; with `pause` it looks for evidence on the pause at the end.
        """
        context = self._context
        self._start = context.start if start is None else start
        self.end, self.transcript, self._deadline, self._in_pause = end, None, deadline, pause
        if frames(end - self._start) == 0:
            self._state, self.transcript = FinalState.DONE, context.decoding.live(())
            return
        samples = context.read(self._start, end)
        if context.normalized:  # by the statistics of the whole, which no live step knew
            samples, features = normalize(samples, context.epsilon), None
        self._state, self._job = FinalState.ENCODING, context.next_id()
        language = context.decoding.language
        context.submit(Request(self._job, "final", context.index, samples, deadline, None, features, language))

    @property
    def pause(self) -> PauseEvidence | None:
        """The evidence on the pause at `end`; None until it is there."""
        if self.failed:
            return PauseEvidence()
        return self.transcript and (self.transcript.pause or PauseEvidence())

    def wants(self, job: int) -> bool:
        """Whether the answer to a job still matters."""
        return job == self._job and self._state in (FinalState.ENCODING, FinalState.DECODING)

    def receive(self, answer: object) -> None:
        """Take the rows, or the transcript."""
        match self._state, answer:
            case FinalState.ENCODING, np.ndarray():
                decoder = self._decoder()
                if decoder.slow:
                    self._state, self._job = FinalState.DECODING, self._context.next_id()
                    index = self._context.index
                    self._context.submit(DecodeJob(self._job, "final", index, self._deadline, lambda: decoder(answer)))
                else:
                    self._state, self.transcript = FinalState.DONE, decoder(answer)
            case FinalState.DECODING, Transcript():
                self._state, self.transcript = FinalState.DONE, answer
            case _:
                raise TypeError(f"{type(answer).__name__} does not answer a second pass that is {self._state.name}")

    def fail(self) -> None:
        self._state = FinalState.FAILED

    def _decoder(self) -> FinalDecoder:
        decoding, commands = self._context.decoding, self._context.commands
        if not self._in_pause:
            return decoding.final(self.end, awake=commands.undecided)
        whole = self._start == self._context.start
        return decoding.at_pause(self.end, awake=commands.undecided, whole=whole, awake_before=commands.awake)
