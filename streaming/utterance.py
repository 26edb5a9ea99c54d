"""One utterance: live steps while it is spoken, and the second pass over the whole of it at its end.

    samples ─▶ planner ─▶ requests ─▶ (the encoder) ─▶ stitcher ─▶ decoder ─▶ partials
                                                                      └─▶ endpointer ─▶ cut

Times inside are samples and frames of the utterance; the session knows where the utterance lies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .config import SessionConfig
from .decode import DecodedWord, GreedyDecoder, decode
from .endpoint import Cut, Endpointer
from .frames import STRIDE, ms
from .normalize import Moments, RunningNormalizer, normalize
from .stitch import Stitched, Stitcher
from .vocabulary import Vocabulary
from .windows import Window, WindowPlanner

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Step:
    """What a live step makes known: complete words, the words after them, and whether the utterance ends here."""

    window: Window
    committed: tuple[DecodedWord, ...]
    volatile: tuple[DecodedWord, ...]
    cut: Cut | None


class Utterance:
    """`normalized` says whether the checkpoint wants zero mean and unit variance; `seed` carries level over."""

    def __init__(
        self, config: SessionConfig, vocabulary: Vocabulary, *, normalized: bool, seed: Moments | None = None
    ) -> None:
        longest = ms(config.max_utterance_ms) // STRIDE
        if config.live:
            hop, lookahead, left = (
                ms(x) // STRIDE for x in (config.hop_ms, config.lookahead_ms, config.left_context_ms)
            )
        else:  # one step where the utterance gets too long, only to find the pause at which to cut it
            hop, lookahead, left = longest, 0, 0
        self._appending = config.finals == "append"
        self._longest = longest
        self._vocabulary = vocabulary
        self._normalized = normalized
        self._audio = RunningNormalizer(seed, enabled=normalized)
        self._planner = WindowPlanner(hop=hop, lookahead=lookahead, left_context=left)
        self._stitcher = Stitcher()
        self._decoder = GreedyDecoder(vocabulary)
        self._endpointer = Endpointer(
            longest=longest,
            trailing=ms(config.trailing_blank_ms) // STRIDE,
            margin=ms(config.post_roll_ms) // STRIDE,
        )
        self._tail: list[DecodedWord] = []

    def due(self) -> int:
        """Samples that the next live step needs, counted from the start of the utterance."""
        return self._planner.due

    @property
    def heard(self) -> int:
        """Samples given to `hear` so far."""
        return self._audio.length

    def hear(self, samples: Float32) -> list[Window]:
        """Take the samples up to the next step's edge, shape (n,); return the steps they make due."""
        self._audio.extend(samples)
        return self._planner.plan(self._audio.length)

    def finish(self, samples: Float32) -> Window | None:
        """Take the utterance's last samples; return the step that commits the rest, if anything is left."""
        self._audio.extend(samples)
        return self._planner.finish(self._audio.length)

    def window_audio(self, window: Window) -> Float32:
        """What the encoder hears for a live step: float32, as many samples as make the window's frames."""
        return self._audio.read(*window.samples)

    def whole_audio(self, samples: Float32) -> Float32:
        """What the encoder hears in the second pass: the whole utterance as the feature extractor gives it."""
        return normalize(samples) if self._normalized else samples

    def receive(self, window: Window, rows: Float32) -> list[Step]:
        """Take a live step's log-probabilities, (frames, vocabulary), in any order; return the steps now complete."""
        return [self._advance(step) for step in self._stitcher.add(window, rows)]

    def _advance(self, step: Stitched) -> Step:
        window, decoder = step.window, self._decoder
        decoder.push(step.committed)
        self._tail = decoder.tail(step.volatile)
        complete = tuple(decoder.words)
        floor = (complete[-1].end if complete else 0) if self._appending else self._longest // 2
        cut = self._endpointer.cut([*complete, *self._tail], floor=floor, committed=window.commit, newest=window.newest)
        return Step(window, complete, tuple(self._tail), cut)

    def live_words(self, end: int) -> list[DecodedWord]:
        """Words of the live steps that begin before frame `end`: committed, then the tail. They make the final where
        finals append, and where the second pass failed."""
        return [word for word in (*self._decoder.words, *self._tail) if word.start < end]

    def final_words(self, rows: Float32) -> list[DecodedWord]:
        """Words of the second pass."""
        return decode(rows, self._vocabulary)
