"""One utterance: live steps while it is spoken, and the second pass over the whole of it at its end.

    samples ─▶ planner ─▶ requests ─▶ (the encoder) ─▶ stitcher ─▶ decoder ─▶ partials
                                                                      └─▶ endpointer ─▶ cut

What it asks for and what it makes of the answers depends on its samples alone. `end` and samples in general are those
of the session; frames are counted from the start of the utterance.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..audio.normalize import Moments, RunningNormalizer, normalize
from ..commands.listener import CommandListener, CommandSpec
from ..commands.matcher import Decision
from ..config import SessionConfig
from ..ctc.greedy import DecodedWord
from ..frames import SAMPLE_RATE, STRIDE, frames, ms, span
from ..overload import Level
from ..requests import CachedFeatures, CachedStep, CacheHandle, Request, Window
from .decoding import Decoding, Transcript
from .endpoint import Cut, Endpointer
from .planner import WindowPlanner
from .stitch import Stitched, Stitcher

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Step:
    """What a live step makes known. With a `cut` the utterance ends there, and its words are the final's to tell."""

    heard: int  # sample up to which the step heard
    committed: tuple[DecodedWord, ...]  # complete words, for good
    volatile: tuple[DecodedWord, ...]  # words after them, for now
    cut: Cut | None
    open: tuple[DecodedWord, ...] = ()  # where the cut goes through a volatile word: as far as it is committed
    decision: Decision | None = None  # a command that is known early


Found = Transcript | list[Step]  # what decoding makes of an answer: of the second pass, of a live step


class Utterance:
    """Begins at sample `start` of the audio that `read(start, end)` gives; `ids` numbers its requests.

    `normalized` says whether the checkpoint wants zero mean and unit variance; `seed` carries the loudness over from
    utterances before. `level` is that of the service as the utterance begins. `awake` is whether the wake phrase, if
    there is one, was said before.
    """

    def __init__(
        self,
        index: int,
        start: int,
        config: SessionConfig,
        decoding: Decoding,
        *,
        read: Callable[[int, int], Float32],
        ids: Iterator[int],
        normalized: bool,
        seed: Moments | None = None,
        level: Level = Level.NORMAL,
        awake: bool = False,
    ) -> None:
        longest = ms(config.max_utterance_ms) // STRIDE
        if config.live:
            hop, lookahead, left = (
                ms(x) // STRIDE for x in (config.hop_ms, config.lookahead_ms, config.left_context_ms)
            )
        else:  # one step where the utterance gets too long, only to find the pause at which to cut it
            hop, lookahead, left = longest, 0, 0
        if level >= Level.SHORT:
            left //= 4
        self.index = index
        self.start = start
        self.end: int | None = None  # once known for good
        self.cut: Cut | None = None  # if it ended though the gate was open
        self._config = config
        self._decoding = decoding
        self._read = read
        self._ids = ids
        self._normalized = normalized
        self._longest = longest
        self._audio = RunningNormalizer(seed, enabled=normalized)
        self._hop, self._lookahead = hop, lookahead
        self._widest = max(1, ms(config.max_hop_ms) // STRIDE // hop)  # hops
        self._planner = WindowPlanner(hop=hop, lookahead=lookahead, left_context=left, longest=longest)
        cached = config.live and config.mode == "cached"
        self.cache = CacheHandle(left, lookahead, longest) if cached else None  # of the encoder, from step to step
        self._stitcher = Stitcher()
        self._decoder = decoding.begin(start)
        self._awake = awake
        self._attention: CommandSpec | None = None  # of the first live step
        self._hearing: CommandListener | None = None  # of the live steps, while an early decision may come
        self._rows: list[Float32] = []  # what the live steps committed, if that is listened to
        self._rows_after: Float32 | None = None  # the volatile ones of the last step
        self._early: Decision | None = None  # stands, whatever the second pass says
        self._endpointer = Endpointer(
            longest=longest - hop + 1,  # where the last step within bounds has come
            trailing=ms(config.trailing_blank_ms) // STRIDE,
            margin=ms(config.post_roll_ms) // STRIDE,
        )
        self._asked: list[Request] = []
        self._live: dict[int, Window] = {}  # unanswered live steps, by request
        self._edges: list[int] = []  # frames that the live steps heard, one after the other
        self._step: Step | None = None  # the last one that was told
        self._rest: Window | None = None  # the step that commits what no step on the grid does
        self._rest_planned = False
        self._strained = False  # the service was overloaded since it began
        self._broken = False  # a live step failed; there will be no more
        self._final: int | None = None  # request of the second pass
        self._final_end = -1  # sample up to which it hears
        self._final_heard: Transcript | None = None
        self._final_failed = False

    # ── what to encode ──

    def plan(
        self, *, known: int, likely_end: int | None, closed: int | None, now: float, level: Level = Level.NORMAL
    ) -> list[Request]:
        """Ask for what is due.

        The audio is the utterance's up to sample `known` for sure; it would end at `likely_end` if the silence lasts,
        and ends at `closed` at the latest, if the gate has closed.
        """
        if self.cut is None and not self._broken:
            self._plan_live(known, now, level, over=closed is not None)
        if self._broken and self.cut is None and known - self.start >= self._longest * STRIDE:
            self.cut = Cut(self._longest, "length")
        self.end = closed if self.cut is None else self.start + self.cut.frame * STRIDE
        end = likely_end if self.end is None else self.end
        if self.end is not None and self._from_live:
            self._plan_rest(self.end, now)
        elif end is not None and end != self._final_end and not self._config.appends:
            # What is only likely has time until the hangover is over, and may turn out not to be wanted.
            self._plan_final(end, now if self.end is not None else now + self._config.hangover_ms / 3000)
        asked, self._asked = self._asked, []
        return asked

    @property
    def _from_live(self) -> bool:
        """Whether the final is what the live steps said: by choice, or because the second pass failed."""
        return self._config.appends or (self._final_failed and self._final_end == self.end)

    def _plan_live(self, known: int, now: float, level: Level, over: bool) -> None:
        self._strained |= level > Level.NORMAL
        fewest, most = self._widths(level)
        if over and (level < Level.FINALS or self._from_live):
            fewest = 1  # a cut in what is left must not depend on the level
        while (hops := self._planner.ready(known - self.start)) and hops >= min(fewest, self._planner.left or 0):
            if self._strained and self._live:
                return  # one at a time: the next one takes all that has come in the meantime
            self._ask_live(self._planner.step(min(hops, most)), now)

    def _widths(self, level: Level) -> tuple[int, int]:
        """Hops of a live step: at least, at most. An utterance that was held back catches up in wide ones."""
        match level:
            case Level.NORMAL:
                return 1, self._widest if self._strained else 1
            case Level.WIDE:
                return min(2, self._widest), self._widest
            case Level.COMMITTED | Level.SHORT:
                return self._widest, self._widest
            case Level.FINALS:
                return self._longest, self._longest

    def _plan_rest(self, end: int, now: float) -> None:
        if self._rest_planned or self._broken or self.cut is not None:
            return
        if not self._planner.left or self._planner.ready(end - self.start):
            return  # the last hop's step will cut; or whole hops wait for their turn
        self._rest_planned = True
        self._rest = self._planner.finish(end - self.start)
        if self._rest is not None:
            self._ask_live(self._rest, now)

    def _plan_final(self, end: int, due: float) -> None:
        """The second pass over the whole utterance; during the hangover at a guess, so that it is there in time."""
        self._final_end, self._final_heard, self._final, self._final_failed = end, None, None, False
        if frames(end - self.start) == 0:
            self._final_heard = self._decoding.live(())
            return
        samples = self._read(self.start, end)
        if self._normalized:  # by the statistics of the whole, which no live step knew
            self._final = self._ask("final", normalize(samples), due)
        else:
            self._final = self._ask("final", samples, due, reuse=self._recall(frames(end - self.start)))

    def _recall(self, end: int) -> CachedFeatures | None:
        """The last live step that heard nothing beyond frame `end`: the same whenever the pass is asked for."""
        at = bisect_right(self._edges, end)
        return CachedFeatures(self.cache, self._edges[at - 1]) if self.cache and at and not self._broken else None

    def _ask_live(self, window: Window, now: float) -> None:
        self._audio.extend(self._read(self.start + self._audio.length, self.start + span(window.newest)))
        self._edges.append(window.newest)
        due = now + (window.newest - window.encoded) * STRIDE / SAMPLE_RATE
        reuse = None if self.cache is None else CachedStep(self.cache, window)
        samples = self._audio.read(*(window.samples if reuse is None else window.new_samples))
        self._live[self._ask("live", samples, due, window, reuse)] = window

    def _ask(
        self,
        kind: Literal["live", "final"],
        samples: Float32,
        due: float,
        window: Window | None = None,
        reuse: CachedStep | CachedFeatures | None = None,
    ) -> int:
        request = Request(next(self._ids), kind, self.index, samples, due, window, reuse)
        self._asked.append(request)
        return request.id

    # ── what the encoder answered ──

    def wants(self, request: int) -> bool:
        """Whether an answer to the request still matters."""
        return request in self._live or (request == self._final and self._final_heard is None)

    def receive(self, request: int, rows: Float32) -> list[Step]:
        """Take log-probabilities, (frames, vocabulary), in any order; return the live steps now complete, in order."""
        return self.told(request, self._decode(request)(rows))

    def search(self, request: int) -> Callable[[Float32], Found] | None:
        """How to decode the answer to a request, where that takes long: `told` takes what it returns."""
        slow = self._decoding.slow(self._final_end) if request == self._final else self._decoding.slow_live
        return self._decode(request) if slow and self.wants(request) else None

    def told(self, request: int, found: Found) -> list[Step]:
        """Take what was decoded, in the order in which it was; return the live steps."""
        if isinstance(found, Transcript):
            if request == self._final:
                self._final_heard = found
            return []
        self._live.pop(request)
        for step in found:
            self._step = step
            if step.cut is not None:
                self.cut = step.cut
                self._live.clear()
        return found

    def fail(self, request: int) -> None:
        """The encoder could not answer: the utterance goes on with what is known."""
        if request == self._final:
            self._final, self._final_failed = None, True
        else:
            self._broken = True
            self._live.clear()

    # ── decoding: one answer at a time, in whatever thread; it touches stitcher and decoder, which nothing else does ──

    def _decode(self, request: int) -> Callable[[Float32], Found]:
        if request == self._final:
            return self._decoding.final(self._final_end, awake=None if self._early else self._awake)
        return partial(self._hear, self._live[request])

    def _hear(self, window: Window, rows: Float32) -> list[Step]:
        steps: list[Step] = []
        known = 0 if self.cache else window.committed - window.first  # rows that were final before
        for stitched in self._stitcher.add(window, rows[known:]):
            steps.append(step := self._advance(stitched))
            if step.cut is not None:  # what is beyond the cut is the next utterance's
                break
        return steps

    def _advance(self, step: Stitched) -> Step:
        window, decoder = step.window, self._decoder
        heard = self.start + span(window.newest)
        self._decoding.follow(decoder, heard)
        decoder.push(step.committed)
        complete, tail = tuple(decoder.words), tuple(decoder.tail(step.volatile))
        cut = None if window == self._rest else self._cut(window, complete, tail)  # the rest is the end anyway
        through = cut is not None and any(word.start < cut.frame < word.end for word in tail)
        open_ = tuple(decoder.pending()) if through else ()
        return Step(heard, complete, tail, cut, open_, self._listen(step, heard, cut))

    def _listen(self, step: Stitched, heard: int, cut: Cut | None) -> Decision | None:
        """Find a command that no longer can become another: in the committed rows, or in them and the volatile ones.

        A grammar that comes in the middle of an utterance finds its commands in the final alone.
        """
        attention = self._decoding.attention(heard)
        if step.window.step == 0 and attention:
            self._attention, self._hearing = attention, attention.hear(awake=self._awake, early=True)
        if self._attention:  # a final may have to be made of them
            self._rows.append(step.committed)
            self._rows_after = step.volatile
        if self._early or cut or not self._hearing or attention is not self._attention:
            self._hearing = None
            return None
        self._early = self._hearing.push(step.committed) or self._hearing.fork().push(step.volatile)
        return self._early

    def _cut(self, window: Window, complete: Sequence[DecodedWord], tail: Sequence[DecodedWord]) -> Cut | None:
        """Judge after every hop of a step, so that a wide one cuts where narrow ones would have."""
        floor = (complete[-1].end if complete else 0) if self._config.appends else self._longest // 2
        words = [*complete, *tail]
        for newest in range(window.encoded + self._hop, window.newest + 1, self._hop):
            heard = [word for word in words if word.start < newest]
            committed = max(0, newest - self._lookahead)
            if cut := self._endpointer.cut(heard, floor=floor, committed=committed, newest=newest):
                return cut
        return None

    # ── how it ended ──

    @property
    def heard(self) -> Transcript | None:
        """What the final tells; None until the end is known and all is answered."""
        if self.end is None or self._live:
            return None
        if self._from_live:
            end = frames(self.end - self.start)
            words = self._decoding.live(self._live_words(end + 1))
            return replace(words, decision=self._live_decision(self.end, end))
        return self._final_heard if self._final_end == self.end else None

    def decision(self, heard: Transcript) -> Decision | None:
        """What the end decides where there is a grammar; None if that was done before."""
        if self._early or self.end is None or not self._decoding.attention(self.end):
            return None
        return heard.decision or Decision(False, None, 0)

    def _live_decision(self, sample: int, end: int) -> Decision | None:
        attention = self._decoding.attention(sample)
        if self._early or attention is None or self._rows_after is None:
            return None
        rows = np.concatenate((*self._rows, self._rows_after))[:end]
        return attention.decide(rows, awake=self._awake)

    def _live_words(self, end: int) -> list[DecodedWord]:
        """Words of the live steps before frame `end`. A word that a cut without a pause goes through is told as far as
        it was committed: the rest of it is the next utterance's."""
        if self._step is None:
            return []
        words = [word for word in (*self._step.committed, *self._step.volatile) if word.end <= end]
        told = words[-1].end if words else 0
        return words + [word for word in self._step.open if told <= word.start < end]
