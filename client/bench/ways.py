"""Ways to decode the same finals: greedily or with a language model, without hotwords, with those that are said, and
with as many that are not. What is heard is counted apart for the words that are said and given as hotwords (the *rare*
words of a recording, see `rare`), and for all others.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jiwer
import numpy as np
from numpy.typing import NDArray

from ...streaming.config import SessionConfig
from ...streaming.frames import FIELD, SAMPLE_RATE
from ...streaming.protocol.events import SpeechEnded, SpeechStarted
from ...streaming.recognizer import Recognizer
from ...streaming.session.decoding import Decoding
from .scoring import ErrorCount, TextNormalizer, TranscriptScores, rate
from .steps import offline_pass

Float32 = NDArray[np.float32]
Hotwords = Literal["none", "said", "not said"]


class Said(NamedTuple):
    """A recording's words, the rare ones among them, and as many of another recording."""

    text: str
    words: list[str]
    rare: list[str]
    others: list[str]


@dataclass(slots=True)
class Way:
    """One way, and what came of it on the recordings of one set."""

    search: bool  # with the language model
    hotwords: Hotwords
    texts: TranscriptScores = field(default_factory=TranscriptScores)
    rare: list[ErrorCount] = field(
        default_factory=list[ErrorCount]
    )  # rare words that were not heard, of those that were said
    elsewhere: list[ErrorCount] = field(default_factory=list[ErrorCount])  # all other errors, of all other words
    intruders: int = 0  # hotwords that were heard where they were not said
    cpu: float = 0.0  # seconds
    seconds: float = 0.0  # of audio

    @property
    def name(self) -> str:
        way = "language model" if self.search else "greedy"
        return way if self.hotwords == "none" else f"{way}, hotwords that are {self.hotwords}"

    def phrases(self, said: Said) -> list[str]:
        return {"none": [], "said": said.rare, "not said": said.others}[self.hotwords]

    def add(self, normalizer: TextNormalizer, said: Said, heard: str) -> None:
        self.texts.add(normalizer, said.text, heard)
        count = judge(said.words, normalizer.words(heard), said.rare, self.phrases(said))
        self.rare.append(count.rare)
        self.elsewhere.append(count.elsewhere)
        self.intruders += count.intruders

    def report(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "way": self.name,
            **self.texts.report(),
            "rare_words": sum(score.length for score in self.rare),
            "rare_words_missed": sum(score.errors for score in self.rare),
            "wer_elsewhere": rate(self.elsewhere),
            "hotwords_not_said": self.intruders,
            "cpu_per_s": self.cpu / self.seconds,
            "texts": self.texts.texts,
        }


class Count(NamedTuple):
    """Errors of rare words and of the others, and hotwords that nobody said."""

    rare: ErrorCount
    elsewhere: ErrorCount
    intruders: int


def judge(said: Sequence[str], heard: Sequence[str], rare: Sequence[str], hotwords: Sequence[str]) -> Count:
    """Errors by the alignment that has the fewest. Insertions count as errors elsewhere."""
    missed, wrong, intruders = 0, 0, 0
    for chunk in jiwer.process_words(" ".join(said), " ".join(heard)).alignments[0] if said or heard else ():
        if chunk.type == "equal":
            continue
        lost, put = said[chunk.ref_start_idx : chunk.ref_end_idx], heard[chunk.hyp_start_idx : chunk.hyp_end_idx]
        missed += (of_rare := sum(word in rare for word in lost))
        wrong += len(lost) - of_rare if lost else len(put)
        intruders += sum(word in hotwords for word in put)
    count = sum(word in rare for word in said)
    return Count(ErrorCount(missed, count), ErrorCount(wrong, len(said) - count), intruders)


def ways() -> list[Way]:
    kinds: tuple[Hotwords, ...] = ("none", "said", "not said")
    return [Way(search, hotwords) for search in (False, True) for hotwords in kinds]


def measure(
    recognizer: Recognizer, normalizer: TextNormalizer, said: Said, samples: Float32, boost: float, ways: Sequence[Way]
) -> None:
    """Add a recording of 16 kHz samples, (n,), to all ways: the finals of a session with the default settings."""
    utterances = [
        (end, offline_pass(recognizer, samples[start:end]).rows) for start, end in _spans(recognizer, samples)
    ]
    for way in ways:
        hotwords = tuple(f"{phrase}:{boost:g}" for phrase in way.phrases(said))
        config = SessionConfig(lm_for="finals" if way.search else "none", hotwords=hotwords)
        vocabulary = recognizer.encoder.vocabulary
        decoding = Decoding(vocabulary, config, recognizer.assets)
        begun = time.process_time()
        found = [decoding.final(end)(rows).words for end, rows in utterances]
        way.cpu += time.process_time() - begun
        way.seconds += len(samples) / SAMPLE_RATE
        way.add(normalizer, said, vocabulary.join(word.text for words in found for word in words))


def _spans(recognizer: Recognizer, samples: Float32) -> Iterator[tuple[int, int]]:
    """Where utterances begin and end; what a final says does not enter into it."""
    start = 0.0
    for event in recognizer.stream(samples, SessionConfig(lm_for="none")):
        if isinstance(event, SpeechStarted):
            start = event.start
        elif isinstance(event, SpeechEnded):
            first, last = round(start * SAMPLE_RATE), round(event.end * SAMPLE_RATE)
            if last - first >= FIELD:
                yield first, last
