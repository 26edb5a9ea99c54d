"""Where an utterance ends although the gate is open: after trailing blanks, or at the best pause of long speech.

The decision uses the words of each step in order, so the same audio is always cut at the same frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from ..ctc.greedy import DecodedWord


class Cut(NamedTuple):
    """Where an utterance ends before the gate closes, and why."""

    frame: int  # the first frame of the next utterance
    reason: Literal["blanks", "length"]


class Endpointer:
    """All lengths in frames. `trailing` of 0 disables that rule; `margin` stays after the last word."""

    def __init__(self, *, longest: int, trailing: int, margin: int) -> None:
        self._longest = longest
        self._trailing = trailing
        self._margin = margin

    def cut(self, words: Sequence[DecodedWord], *, floor: int, committed: int, newest: int) -> Cut | None:
        """Decide after a step that covers frames up to `newest` and commits those up to `committed`.

        `words` are all so far, with the volatile ones. Long speech is not cut before `floor`.
        """
        if self._trailing and words and newest - words[-1].end >= self._trailing:
            frame = words[-1].end + self._margin
            if frame <= committed:
                return Cut(frame, "blanks")
        if newest >= self._longest:
            return Cut(self._best_pause(words, floor, committed, newest), "length")
        return None

    def _best_pause(self, words: Sequence[DecodedWord], floor: int, committed: int, newest: int) -> int:
        """Middle of the longest gap between words after `floor`, the last of equals; else the committed edge."""
        following = [*words[1:], DecodedWord("", newest, newest, 0.0, 0)]
        gaps = [
            (after.start - word.end, (word.end + after.start + 1) // 2)
            for word, after in zip(words, following, strict=False)
        ]
        length, frame = max((gap for gap in gaps if gap[1] >= floor), default=(0, 0))
        return frame if length > 0 else committed or newest
