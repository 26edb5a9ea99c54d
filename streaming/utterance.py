"""One utterance: live steps while it is spoken, and the second pass over the whole of it at its end.

    samples ─▶ planner ─▶ requests ─▶ (the encoder) ─▶ stitcher ─▶ decoder ─▶ partials
                                                                      └─▶ endpointer ─▶ cut

What it asks for and what it makes of the answers depends on its samples alone. `end` and samples in general are those
of the session; frames are counted from the start of the utterance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .config import SessionConfig
from .decode import DecodedWord, GreedyDecoder, decode
from .endpoint import Cut, Endpointer
from .frames import STRIDE, frames, ms, span
from .normalize import Moments, RunningNormalizer, normalize
from .stitch import Stitched, Stitcher
from .vocabulary import Vocabulary
from .windows import Memory, Reuse, Window, WindowPlanner

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """Audio to encode. The answer has one row of log-probabilities for every frame of `samples`, or as `reuse` says."""

    id: int  # within the session
    kind: Literal["live", "final"]
    utterance: int
    samples: Float32  # (n,), 16 kHz, normalised as the checkpoint wants
    deadline: float  # on the caller's clock; finals are due at once
    window: Window | None  # of a live step: what it extends, and what was final before
    reuse: Reuse | None = None  # of a live step in cached mode; these are to be encoded in the order in which they come


@dataclass(frozen=True, slots=True)
class Step:
    """What a live step makes known. With a `cut` the utterance ends there, and its words are the final's to tell."""

    heard: int  # sample up to which the step heard
    committed: tuple[DecodedWord, ...]  # complete words, for good
    volatile: tuple[DecodedWord, ...]  # words after them, for now
    cut: Cut | None


class Utterance:
    """Begins at sample `start` of the audio that `read(start, end)` gives; `ids` numbers its requests.

    `normalized` says whether the checkpoint wants zero mean and unit variance; `seed` carries the level over from
    utterances before.
    """

    def __init__(
        self,
        index: int,
        start: int,
        config: SessionConfig,
        vocabulary: Vocabulary,
        *,
        read: Callable[[int, int], Float32],
        ids: Iterator[int],
        normalized: bool,
        seed: Moments | None = None,
    ) -> None:
        longest = ms(config.max_utterance_ms) // STRIDE
        if config.live:
            hop, lookahead, left = (
                ms(x) // STRIDE for x in (config.hop_ms, config.lookahead_ms, config.left_context_ms)
            )
        else:  # one step where the utterance gets too long, only to find the pause at which to cut it
            hop, lookahead, left = longest, 0, 0
        self.index = index
        self.start = start
        self.end: int | None = None  # once known for good
        self.cut: Cut | None = None  # if it ended though the gate was open
        self._config = config
        self._vocabulary = vocabulary
        self._read = read
        self._ids = ids
        self._normalized = normalized
        self._longest = longest
        self._audio = RunningNormalizer(seed, enabled=normalized)
        self._planner = WindowPlanner(hop=hop, lookahead=lookahead, left_context=left)
        cached = config.live and config.mode == "cached"
        self.memory = Memory(left, lookahead) if cached else None  # of the encoder, from step to step
        self._stitcher = Stitcher()
        self._decoder = GreedyDecoder(vocabulary)
        self._endpointer = Endpointer(
            longest=longest - hop + 1,  # the step that could be the last within bounds
            trailing=ms(config.trailing_blank_ms) // STRIDE,
            margin=ms(config.post_roll_ms) // STRIDE,
        )
        self._asked: list[Request] = []
        self._live: dict[int, Window] = {}  # unanswered live steps, by request
        self._tail: list[DecodedWord] = []  # words after the committed ones, as of the last step
        self._rest: Window | None = None  # the step that commits what no step on the grid does
        self._rest_planned = False
        self._broken = False  # a live step failed; there will be no more
        self._final: int | None = None  # request of the second pass
        self._final_end = -1  # sample up to which it hears
        self._final_words: list[DecodedWord] | None = None
        self._final_failed = False

    # ── what to encode ──

    def plan(self, *, known: int, likely_end: int | None, closed: int | None, now: float) -> list[Request]:
        """Ask for what is due.

        The audio is the utterance's up to sample `known` for sure; it would end at `likely_end` if the silence lasts,
        and ends at `closed` at the latest, if the gate has closed.
        """
        if self.cut is None and not self._broken:
            self._plan_live(known, now)
        if self._broken and self.cut is None and known - self.start >= self._longest * STRIDE:
            self.cut = Cut(self._longest, "length")
        self.end = closed if self.cut is None else self.start + self.cut.frame * STRIDE
        end = likely_end if self.end is None else self.end
        if self.end is not None and self._from_live:
            self._plan_rest(self.end, now)
        elif end is not None and end != self._final_end and not self._config.appends:
            self._plan_final(end, now)
        asked, self._asked = self._asked, []
        return asked

    @property
    def _from_live(self) -> bool:
        """Whether the final is what the live steps said: by choice, or because the second pass failed."""
        return self._config.appends or (self._final_failed and self._final_end == self.end)

    def _plan_live(self, known: int, now: float) -> None:
        while self.start + self._planner.due <= known:
            self._audio.extend(self._read(self.start + self._audio.length, self.start + self._planner.due))
            for window in self._planner.plan(self._audio.length):
                self._ask_live(window, now)

    def _plan_rest(self, end: int, now: float) -> None:
        if self._rest_planned or self._broken or self.cut is not None:
            return
        self._rest_planned = True
        self._audio.extend(self._read(self.start + self._audio.length, end))
        self._rest = self._planner.finish(self._audio.length)
        if self._rest is not None:
            self._ask_live(self._rest, now)

    def _plan_final(self, end: int, now: float) -> None:
        """The second pass over the whole utterance; during the hangover at a guess, so that it is there in time."""
        self._final_end, self._final_words, self._final, self._final_failed = end, None, None, False
        if frames(end - self.start) == 0:
            self._final_words = []
            return
        samples = self._read(self.start, end)
        self._final = self._ask("final", normalize(samples) if self._normalized else samples, now)

    def _ask_live(self, window: Window, now: float) -> None:
        due = now + self._config.hop_ms / 1000
        reuse = None if self.memory is None else Reuse(self.memory, window)
        span = window.samples if reuse is None else window.new_samples
        self._live[self._ask("live", self._audio.read(*span), due, window, reuse)] = window

    def _ask(
        self,
        kind: Literal["live", "final"],
        samples: Float32,
        due: float,
        window: Window | None = None,
        reuse: Reuse | None = None,
    ) -> int:
        request = Request(next(self._ids), kind, self.index, samples, due, window, reuse)
        self._asked.append(request)
        return request.id

    # ── what the encoder answered ──

    def wants(self, request: int) -> bool:
        """Whether an answer to the request still matters."""
        return request in self._live or (request == self._final and self._final_words is None)

    def receive(self, request: int, rows: Float32) -> list[Step]:
        """Take log-probabilities, (frames, vocabulary), in any order; return the live steps now complete, in order."""
        if request == self._final:
            self._final_words = decode(rows, self._vocabulary)
            return []
        steps: list[Step] = []
        window = self._live.pop(request)
        known = 0 if self.memory else window.committed - window.first  # rows that were final before
        for stitched in self._stitcher.add(window, rows[known:]):
            steps.append(step := self._advance(stitched))
            if step.cut is not None:  # what is beyond the cut is the next utterance's
                self.cut = step.cut
                self._live.clear()
                break
        return steps

    def fail(self, request: int) -> None:
        """The encoder could not answer: the utterance goes on with what is known."""
        if request == self._final:
            self._final, self._final_failed = None, True
        else:
            self._broken = True
            self._live.clear()

    def _advance(self, step: Stitched) -> Step:
        window, decoder = step.window, self._decoder
        decoder.push(step.committed)
        self._tail = decoder.tail(step.volatile)
        complete = tuple(decoder.words)
        floor = (complete[-1].end if complete else 0) if self._config.appends else self._longest // 2
        cut = None
        if window != self._rest:  # which is the end anyway
            cut = self._endpointer.cut(
                [*complete, *self._tail], floor=floor, committed=window.commit, newest=window.newest
            )
        return Step(self.start + span(window.newest), complete, tuple(self._tail), cut)

    # ── how it ended ──

    @property
    def words(self) -> list[DecodedWord] | None:
        """The final's words; None until the end is known and all is answered."""
        if self.end is None or self._live:
            return None
        if self._from_live:
            return self._live_words(frames(self.end - self.start) + 1)
        return self._final_words if self._final_end == self.end else None

    def _live_words(self, end: int) -> list[DecodedWord]:
        """Words of the live steps before frame `end`. A word that a cut without a pause goes through is told as far as
        it was committed: the rest of it is the next utterance's."""
        words = [word for word in (*self._decoder.words, *self._tail) if word.end <= end]
        if any(word.start < end < word.end for word in self._tail):
            words += self._decoder.pending()
        return words
