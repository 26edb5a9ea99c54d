"""`--summary`: word count, word error rate, latencies and speed at the end of a run."""

from __future__ import annotations

import time
import unicodedata
from pathlib import Path
from typing import TextIO

from ...streaming.errors import XlsrLiveError
from ...streaming.protocol.events import Event, Final, SessionEnded, SessionStarted, SpeechEnded
from ...streaming.textfile import read_text
from .formats import Output
from .latency import Latencies, TimedEvents, latencies, percentiles
from .word_errors import edits

LABELS = {"shown": "word shown", "committed": "word committed", "final_after_word": "final after its last word"}


class Summary(Output):
    """Writes a summary to `out` at the end; with a `reference` (the spoken words) it has the word error rate.

    `paced`: the audio arrives in real time, so words can be late. `local`: the model runs in this process.
    """

    def __init__(self, out: TextIO, *, reference: list[str] | None, paced: bool, local: bool) -> None:
        super().__init__(out)
        self._reference = reference
        self._paced, self._local = paced, local
        self._words: list[str] = []
        self._audio_s = 0.0
        self._latencies = Latencies()
        self._utterance = TimedEvents()
        self._began: float | None = None
        self._head_start = 0.0

    def head_start(self, seconds: float) -> None:
        self._head_start = seconds

    def show(self, event: Event) -> None:
        match event:
            case SessionStarted():
                self._began = self._clock() if self._began is None else self._began
                self._utterance = TimedEvents(begun=time.monotonic() - self._head_start)
                self._head_start = 0.0
            case Final():
                self._words += split_words(event.text)
            case SessionEnded():
                self._audio_s += event.audio_s
            case _:
                pass
        if self._paced:
            self._utterance.events.append((time.monotonic(), event))
            if isinstance(event, SpeechEnded):
                self._latencies.extend(latencies(self._utterance))
                self._utterance.events.clear()

    def close(self) -> None:
        lines = [f"{len(self._words)} words in {self._audio_s:.1f} s of audio"]
        if self._reference is not None:
            wrong, length = edits(self._reference, self._words)[-1], len(self._reference)
            lines.append(f"WER {100 * wrong / length:.1f} % ({wrong} of {length} words)")
        for name, label in LABELS.items():
            if (found := percentiles(getattr(self._latencies, name)))["count"]:
                lines.append(f"{label}: {found['p50']:.2f} s (p50), {found['p95']:.2f} s (p95)")
        if self._began is not None and self._audio_s and (self._local or not self._paced):
            took = self._clock() - self._began
            kind = "CPU time" if self._paced else "time"
            lines.append(f"real-time factor {took / self._audio_s:.3f} ({took:.1f} s of {kind})")
        self._write("".join(f"{line}\n" for line in lines))

    def _clock(self) -> float:
        """CPU time if the audio is paced, else wall time."""
        return time.process_time() if self._paced else time.monotonic()


def split_words(text: str) -> list[str]:
    """The words of a text, without case, punctuation and differences of encoding.

    Combining marks are parts of words: vowels in Hindi, accents in decomposed text.
    """
    folded = unicodedata.normalize("NFC", text.casefold()).replace("’", "'")
    words = "".join(map(_word_char, folded)).split()
    return [word for each in words if (word := each.strip("'"))]  # without quotation marks


def _word_char(char: str) -> str:
    """The character if words have it; else a blank, or nothing for a format character (joiner, soft hyphen)."""
    category = unicodedata.category(char)
    if category == "Cf":
        return ""
    return char if char == "'" or category[0] in "LMN" else " "


def read_reference(path: Path) -> list[str]:
    """The words of a text file. Raises `XlsrLiveError`."""
    found = split_words(read_text(path, "the reference"))
    if not found:
        raise XlsrLiveError(f"{path} has no words")
    return found
