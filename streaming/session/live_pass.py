"""The first pass over an utterance: live steps while it is spoken.

samples ─▶ planner ─▶ requests ─▶ (encoder) ─▶ stitcher ─▶ step decoder ─▶ partials, early commands
                                                                 └─▶ endpointer ─▶ cut
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from ..audio.normalize import Moments, RunningNormalizer
from ..ctc.greedy import DecodedWord
from ..frames import SAMPLE_RATE, STRIDE, ms, span
from ..overload import Level
from ..requests import CachedFeatures, CachedStep, CacheHandle, DecodeJob, Request, Window
from .endpoint import Cut, Endpointer
from .planner import WindowPlanner
from .step_decoder import DecodedSteps, Step, StepDecoder, StepInput
from .stitch import Stitched, Stitcher
from .utterance_context import UtteranceContext


class LiveState(Enum):
    """How far the live steps of an utterance are."""

    STEPPING = auto()  # requests steps on the grid
    FINISHING = auto()  # has planned the step that commits the rest
    CUT = auto()  # the utterance ends at `cut`
    FAILED = auto()  # a step failed; there are no more


class LivePass:
    """`seed` carries the loudness over from earlier utterances; `level` is that at the start of this one."""

    def __init__(self, context: UtteranceContext, *, seed: Moments | None, level: Level) -> None:
        config = context.config
        longest = ms(config.max_utterance_ms) // STRIDE
        if config.live:
            hop, lookahead, left = (ms(x) // STRIDE for x in (config.hop_ms, config.lookahead, config.left_context_ms))
        else:  # a single step once the utterance gets too long, only to find the pause at which to cut it
            hop, lookahead, left = longest, 0, 0
        if level >= Level.SHORT:
            left //= 4
        cached = config.live and config.mode == "cached"
        language = context.decoding.language
        self.cache = CacheHandle(left, lookahead, longest, language) if cached else None
        self.cut: Cut | None = None  # ends the utterance although the gate is open
        self._state = LiveState.STEPPING
        self._context = context
        self._longest = longest
        self._widest = max(1, ms(config.max_hop_ms) // STRIDE // hop)  # hops
        self._planner = WindowPlanner(hop=hop, lookahead=lookahead, left_context=left, longest=longest)
        self._audio = RunningNormalizer(seed, enabled=context.normalized, epsilon=context.epsilon)
        self._stitcher = Stitcher()
        self._decoder = StepDecoder(
            context.decoding.begin(context.start),
            Endpointer(
                longest=longest - hop + 1,  # where the last step within bounds has come
                trailing=ms(config.trailing_blank_ms) // STRIDE,
                margin=ms(config.post_roll_ms) // STRIDE,
            ),
            hop=hop,
            lookahead=lookahead,
            floor=None if config.appends else longest // 2,
            awake=context.commands.awake,
        )
        self._pending: dict[int, Request] = {}  # steps at the encoder
        self._stitched: deque[tuple[Request, list[StepInput]]] = deque()  # encoded, waiting for the decoder
        self._decoding: int | None = None  # the decode job that owns the decoder
        self._ends: list[int] = []  # end frames of the requested steps
        self._last: Step | None = None  # the last decoded step
        self._rest: Window | None = None  # the step that commits the frames after the last whole hop
        self._throttled = False  # there was overload since the utterance began

    # ── jobs ──

    def plan(self, known: int, now: float, level: Level, *, flush: bool) -> None:
        """Request due steps. The utterance has at least the samples up to `known`; `flush` takes narrow steps too."""
        match self._state:
            case LiveState.STEPPING:
                self._plan_steps(known, now, level, flush)
            case LiveState.FAILED if known - self._context.start >= self._longest * STRIDE:
                self._cut(Cut(self._longest, "length"))
            case _:
                pass

    def _plan_steps(self, known: int, now: float, level: Level, flush: bool) -> None:
        self._throttled |= level > Level.NORMAL
        fewest, most = self._widths(level)
        if flush:
            fewest = 1  # a cut in the remaining audio must not depend on the level
        while (hops := self._planner.ready(known - self._context.start)) and hops >= min(
            fewest, self._planner.left or 0
        ):
            if self._throttled and self.busy:
                return  # one at a time: the next step takes all audio that arrives meanwhile
            self._request(self._planner.step(min(hops, most)), now)

    def _widths(self, level: Level) -> tuple[int, int]:
        """Fewest and most hops of a live step. After overload, wide steps catch up."""
        match level:
            case Level.NORMAL:
                return 1, self._widest if self._throttled else 1
            case Level.WIDE:
                return min(2, self._widest), self._widest
            case Level.COMMITTED | Level.SHORT:
                return self._widest, self._widest
            case Level.FINALS:
                return self._longest, self._longest

    def plan_rest(self, end: int, now: float) -> None:
        """Request the step that commits the frames after the last whole hop, once; the utterance ends at `end`."""
        samples = end - self._context.start
        if self._state is not LiveState.STEPPING or not self._planner.left or self._planner.ready(samples):
            return  # the last hop's step cuts; or whole hops wait for their turn
        self._state = LiveState.FINISHING
        self._rest = self._planner.finish(samples)
        if self._rest is not None:
            self._request(self._rest, now)

    def _request(self, window: Window, now: float) -> None:
        context, audio = self._context, self._audio
        audio.extend(context.read(context.start + audio.length, context.start + span(window.newest)))
        self._ends.append(window.newest)
        step = None if self.cache is None else CachedStep(self.cache, window)
        samples = audio.read(*(window.samples if step is None else window.new_samples))
        deadline = now + (window.newest - window.encoded) * STRIDE / SAMPLE_RATE
        language = context.decoding.language
        request = Request(context.next_id(), "live", context.index, samples, deadline, window, step, language)
        self._pending[request.id] = request
        context.submit(request)

    # ── answers ──

    @property
    def busy(self) -> bool:
        """Whether steps are being encoded or decoded."""
        return bool(self._pending or self._stitched) or self._decoding is not None

    def wants(self, job: int) -> bool:
        """Whether the answer to a job still matters."""
        return job in self._pending or job == self._decoding

    def receive(self, job: int, answer: object) -> Sequence[Step]:
        """Take rows, in any order, or decoded steps; return the steps now complete, in order."""
        match answer:
            case np.ndarray():
                self._stitch(job, answer)
            case DecodedSteps():
                self._decoding, self._decoder = None, answer.decoder
                self._accept(answer.steps)
                steps = answer.steps
                return (*steps, *self._decode())
            case _:
                raise TypeError(f"a live step cannot be made of {type(answer).__name__}")
        return self._decode()

    def _stitch(self, job: int, rows: NDArray[np.float32]) -> None:
        request = self._pending[job]
        assert request.window is not None
        known = 0 if self.cache else request.window.committed - request.window.first  # rows that were final before
        complete = self._stitcher.add(request.window, rows[known:])
        del self._pending[job]
        if complete:
            self._stitched.append((request, [self._input(each) for each in complete]))

    def _input(self, stitched: Stitched) -> StepInput:
        context, window = self._context, stitched.window
        end = context.start + span(window.newest)
        spec = context.commands.spec(window.step, end)
        return StepInput(stitched, end, context.decoding.hotwords(end), spec, may_cut=window != self._rest)

    def _decode(self) -> Sequence[Step]:
        """Decode what is stitched: at once, or in a job if that takes long."""
        steps: list[Step] = []
        while self._stitched and self._decoding is None:
            request, inputs = self._stitched.popleft()
            if self._context.decoding.live_is_slow:
                self._submit_decoding(request, inputs)
            else:
                decoded = self._decoder.decode(inputs).steps
                self._accept(decoded)
                steps += decoded
        return steps

    def _submit_decoding(self, request: Request, inputs: Sequence[StepInput]) -> None:
        decoder = self._decoder
        self._decoding = self._context.next_id()
        self._context.submit(
            DecodeJob(self._decoding, "live", request.utterance, request.deadline, lambda: decoder.decode(inputs))
        )

    def _accept(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._last = step
            self._context.commands.add(step)
            if step.cut is not None:
                self._cut(step.cut)

    def _cut(self, cut: Cut) -> None:
        self._state, self.cut = LiveState.CUT, cut
        self._drop_jobs()

    def fail(self) -> None:
        """A step failed: keep the steps so far. The cache may lack features now."""
        self._state = LiveState.FAILED
        self._ends.clear()
        self._drop_jobs()

    def _drop_jobs(self) -> None:
        self._pending.clear()
        self._stitched.clear()
        self._decoding = None

    # ── results ──

    def cached_features(self, end: int) -> CachedFeatures | None:
        """Features of the last step within the first `end` frames: the same whenever the second pass is requested."""
        at = bisect_right(self._ends, end)
        return CachedFeatures(self.cache, self._ends[at - 1]) if self.cache and at else None

    def words(self, end: int) -> list[DecodedWord]:
        """Words that end within the first `end` frames.

        Of a word that a cut splits, the committed part: the rest belongs to the next utterance.
        """
        if self._last is None:
            return []
        words = [word for word in (*self._last.committed, *self._last.volatile) if word.end <= end]
        covered = words[-1].end if words else 0
        return words + [word for word in self._last.open if covered <= word.start < end]
