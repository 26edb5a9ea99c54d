"""LocalAgreement-2, the loop by which Whisper is used live: text that two steps in turn agree on is committed.

After whisper_streaming (github.com/ufal/whisper_streaming; D. Macháček, R. Dabre, O. Bojar, "Turning Whisper into
Real-Time Transcription System", IJCNLP-AACL 2023) with its defaults: a step each second, audio cut at a committed
segment once it is longer than 15 s, the last 200 characters before the cut as a prompt, and Silero's detector, which
ends an utterance after 500 ms of silence. It differs in one point, to Whisper's advantage: at the end of an utterance
a last step takes all of its audio, where whisper_streaming shows the text of the step before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CUT_S = 15.0
PROMPT = 200  # characters
SLACK_S = 0.1  # a word that starts this much before the end of the committed text is new
NEAR_S = 1.0  # repeated words are looked for within this distance of it
REPEATED = 5  # words at most
CHUNK = 512  # samples of a probability of Silero
SPEECH, SILENCE = 0.5, 0.35  # thresholds of Silero's VADIterator
HANGOVER_S = 0.5


class Timed(NamedTuple):
    """A word with its times in seconds, and the blank before it."""

    start: float
    end: float
    text: str


class LocalAgreement:
    """The hypotheses of one utterance. `offset` is the second of the stream at which the audio of a step begins."""

    def __init__(self, offset: float) -> None:
        self.offset = offset
        self.committed: list[Timed] = []
        self._last: list[Timed] = []  # what the step before found after the committed words
        self._cut = 0  # committed words before `offset`

    @property
    def prompt(self) -> str:
        """The end of the text before `offset`."""
        return "".join(word.text for word in self.committed[: self._cut])[-PROMPT:]

    def receive(self, words: list[Timed], segment_ends: list[float], audio_s: float) -> list[Timed]:
        """Take the words of a step over `audio_s` seconds; times from `offset` on. Returns newly committed ones."""
        new = self._unknown([Timed(w.start + self.offset, w.end + self.offset, w.text) for w in words])
        agreed = next(
            (n for n, (a, b) in enumerate(zip(new, self._last, strict=False)) if a.text != b.text),
            min(len(new), len(self._last)),
        )
        self.committed += new[:agreed]
        self._last = new[agreed:]
        if audio_s > CUT_S and self.committed:
            self._cut_at([end + self.offset for end in segment_ends])
        return new[:agreed]

    def finish(self) -> list[Timed]:
        """The words that are left at the end of the utterance; all are committed then."""
        left, self._last = self._last, []
        self.committed += left
        return left

    def _unknown(self, words: list[Timed]) -> list[Timed]:
        """The words after the committed ones, without those that a step repeats."""
        if not self.committed:
            return words
        end = self.committed[-1].end
        new = [word for word in words if word.start > end - SLACK_S]
        if new and abs(new[0].start - end) < NEAR_S:
            for count in range(1, min(len(self.committed) - self._cut, len(new), REPEATED) + 1):
                if [w.text for w in self.committed[-count:]] == [w.text for w in new[:count]]:
                    return new[count:]
        return new

    def _cut_at(self, segment_ends: list[float]) -> None:
        """Drop audio up to the last segment but one whose words are committed."""
        done = [end for end in segment_ends[:-1] if end <= self.committed[-1].end]
        if done:
            self.offset = done[-1]
            self._cut = sum(word.end <= self.offset for word in self.committed)


def speech_spans(samples: NDArray[np.float32]) -> list[tuple[float, float, float]]:
    """Start, end, and the second at which the end is known, of each span of speech that Silero finds."""
    from faster_whisper.vad import get_vad_model

    padded = np.pad(samples, (0, -len(samples) % CHUNK)).copy()
    spans: list[tuple[float, float, float]] = []
    start = silent = None
    for number, probability in enumerate(get_vad_model()(padded).ravel()):
        begin, end = number * CHUNK / 16_000, (number + 1) * CHUNK / 16_000
        if probability >= SPEECH:
            start, silent = begin if start is None else start, None
        elif probability < SILENCE and start is not None:
            silent = begin if silent is None else silent
            if end - silent >= HANGOVER_S:
                spans.append((start, silent, end))
                start = silent = None
    if start is not None:
        whole = len(samples) / 16_000
        spans.append((start, whole, whole))
    return spans
