"""Decoding of live steps: words, the cut that ends an utterance early, and commands that are certain early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..commands.decision import Decision
from ..commands.hotwords import HotwordSet
from ..commands.listener import CommandListener, CommandSpec
from ..ctc.greedy import DecodedWord
from ..requests import Window
from .decoding import LiveDecoder, set_hotwords
from .endpoint import Cut, Endpointer
from .stitch import Stitched


@dataclass(frozen=True, slots=True)
class StepInput:
    """Rows of one live step, and the settings that hold for it."""

    stitched: Stitched
    end_sample: int  # of the session's audio that the step covers
    hotwords: HotwordSet | None
    spec: CommandSpec | None  # commands; None ends the search for an early one
    may_cut: bool  # False for the step that ends the utterance anyway


@dataclass(frozen=True, slots=True)
class Step:
    """Result of a live step. With a `cut` the utterance ends there, and only the final shows its words."""

    stitched: Stitched
    end_sample: int
    committed: tuple[DecodedWord, ...]  # complete words, final
    volatile: tuple[DecodedWord, ...]  # words after them, for now
    cut: Cut | None
    open: tuple[DecodedWord, ...] = ()  # where the cut splits a volatile word: its committed part
    decision: Decision | None = None  # a command that is certain early


class DecodedSteps(NamedTuple):
    """The answer of a decode job: its steps up to the first cut, and the decoder for the next job."""

    decoder: StepDecoder
    steps: tuple[Step, ...]


class StepDecoder:
    """Decodes one utterance's live steps in order. Only one decode job at a time owns it.

    Lengths are in frames. `hop` and `lookahead` are those of narrow steps. Speech that is too long is cut at a pause
    after frame `floor`, or after the last committed word if that is None.
    """

    def __init__(
        self,
        decoder: LiveDecoder,
        endpointer: Endpointer,
        *,
        hop: int,
        lookahead: int,
        floor: int | None,
        awake: bool,
    ) -> None:
        self._decoder = decoder
        self._endpointer = endpointer
        self._hop = hop
        self._lookahead = lookahead
        self._floor = floor
        self._awake = awake
        self._listener: CommandListener | None = None  # while an early decision is possible

    def decode(self, inputs: Sequence[StepInput]) -> DecodedSteps:
        """Decode the next steps; what follows a cut belongs to the next utterance."""
        steps: list[Step] = []
        for each in inputs:
            steps.append(step := self._decode(each))
            if step.cut is not None:
                break
        return DecodedSteps(self, tuple(steps))

    def _decode(self, step: StepInput) -> Step:
        stitched, decoder = step.stitched, self._decoder
        set_hotwords(decoder, step.hotwords)
        decoder.push(stitched.committed)
        complete, tail = tuple(decoder.words), tuple(decoder.tail(stitched.volatile))
        cut = self._cut(stitched.window, complete, tail) if step.may_cut else None
        splits = cut is not None and any(word.start < cut.frame < word.end for word in tail)
        open_ = tuple(decoder.pending()) if splits else ()
        return Step(stitched, step.end_sample, complete, tail, cut, open_, self._listen(step, cut))

    def _cut(self, window: Window, complete: Sequence[DecodedWord], tail: Sequence[DecodedWord]) -> Cut | None:
        """Judge after every hop of a step, so that a wide step cuts where narrow ones would."""
        floor = self._floor
        if floor is None:
            floor = complete[-1].end if complete else 0
        words = [*complete, *tail]
        for newest in range(window.encoded + self._hop, window.newest + 1, self._hop):
            known = [word for word in words if word.start < newest]
            committed = max(0, newest - self._lookahead)
            if cut := self._endpointer.cut(known, floor=floor, committed=committed, newest=newest):
                return cut
        return None

    def _listen(self, step: StepInput, cut: Cut | None) -> Decision | None:
        """Find a command that can no longer become another: in the committed rows, or with the volatile ones."""
        if step.stitched.window.step == 0 and step.spec:
            self._listener = step.spec.listen(awake=self._awake, early=True)
        if self._listener is None or step.spec is None or cut is not None:
            self._listener = None
            return None
        stitched = step.stitched
        decision = self._listener.push(stitched.committed) or self._listener.fork().push(stitched.volatile)
        if decision is not None:
            self._listener = None
        return decision
