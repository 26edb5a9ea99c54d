"""Six ways to decode the same finals: greedy or with the language model, each without hotwords, with hotwords that the
reference contains, and with as many that it does not.

Errors are counted separately for the rare words of a recording (see `rare_words`) and for all other words.
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
HotwordChoice = Literal["none", "said", "not said"]


class Reference(NamedTuple):
    """The reference of one recording and its two lists of hotwords."""

    text: str
    words: list[str]
    rare: list[str]  # rare words of this reference
    distractors: list[str]  # rare words of another recording


@dataclass(slots=True)
class DecodingVariant:
    """One way to decode, and its scores on the recordings of one set."""

    search: bool  # with the language model
    hotwords: HotwordChoice
    texts: TranscriptScores = field(default_factory=TranscriptScores)
    rare: list[ErrorCount] = field(default_factory=list[ErrorCount])  # missed rare words, of all rare words
    elsewhere: list[ErrorCount] = field(default_factory=list[ErrorCount])  # all other errors, of all other words
    intruders: int = 0  # inserted or substituted words that are hotwords
    cpu: float = 0.0  # seconds
    seconds: float = 0.0  # of audio

    @property
    def name(self) -> str:
        decoder = "language model" if self.search else "greedy"
        return decoder if self.hotwords == "none" else f"{decoder}, hotwords that are {self.hotwords}"

    def phrases(self, reference: Reference) -> list[str]:
        """The hotwords for this recording."""
        return {"none": [], "said": reference.rare, "not said": reference.distractors}[self.hotwords]

    def add(self, normalizer: TextNormalizer, reference: Reference, transcript: str) -> None:
        """Score the transcript of one recording."""
        self.texts.add(normalizer, reference.text, transcript)
        errors = count_errors(reference.words, normalizer.words(transcript), reference.rare, self.phrases(reference))
        self.rare.append(errors.rare)
        self.elsewhere.append(errors.elsewhere)
        self.intruders += errors.intruders

    def report(self) -> dict[str, Any]:
        """All scores, for JSON."""
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


class HotwordErrors(NamedTuple):
    """The errors of one transcript."""

    rare: ErrorCount
    elsewhere: ErrorCount
    intruders: int


def count_errors(
    reference: Sequence[str], transcript: Sequence[str], rare: Sequence[str], hotwords: Sequence[str]
) -> HotwordErrors:
    """Count errors by the minimum edit distance alignment. Insertions count as errors elsewhere."""
    missed, wrong, intruders = 0, 0, 0
    aligned = reference or transcript
    for chunk in jiwer.process_words(" ".join(reference), " ".join(transcript)).alignments[0] if aligned else ():
        if chunk.type == "equal":
            continue
        lost = reference[chunk.ref_start_idx : chunk.ref_end_idx]
        put = transcript[chunk.hyp_start_idx : chunk.hyp_end_idx]
        missed += (lost_rare := sum(word in rare for word in lost))
        wrong += len(lost) - lost_rare if lost else len(put)
        intruders += sum(word in hotwords for word in put)
    count = sum(word in rare for word in reference)
    return HotwordErrors(ErrorCount(missed, count), ErrorCount(wrong, len(reference) - count), intruders)


def all_variants() -> list[DecodingVariant]:
    """The six variants without scores, in the order of the table."""
    choices: tuple[HotwordChoice, ...] = ("none", "said", "not said")
    return [DecodingVariant(search, hotwords) for search in (False, True) for hotwords in choices]


def decode_variants(
    recognizer: Recognizer,
    normalizer: TextNormalizer,
    reference: Reference,
    samples: Float32,
    boost: float,
    variants: Sequence[DecodingVariant],
) -> None:
    """Decode a recording of 16 kHz samples, (n,), by every variant and add its scores.

    The utterances are those of a session with the default settings.
    """
    utterances = [
        (end, offline_pass(recognizer, samples[start:end]).rows) for start, end in _spans(recognizer, samples)
    ]
    for variant in variants:
        hotwords = tuple(f"{phrase}:{boost:g}" for phrase in variant.phrases(reference))
        config = SessionConfig(lm_for="finals" if variant.search else "none", hotwords=hotwords)
        vocabulary = recognizer.encoder.vocabulary
        decoding = Decoding(vocabulary, config, recognizer.assets)
        started = time.process_time()
        found = [decoding.final(end)(rows).words for end, rows in utterances]
        variant.cpu += time.process_time() - started
        variant.seconds += len(samples) / SAMPLE_RATE
        variant.add(normalizer, reference, vocabulary.join(word.text for words in found for word in words))


def _spans(recognizer: Recognizer, samples: Float32) -> Iterator[tuple[int, int]]:
    """First and last sample of each utterance. They do not depend on the decoder of the finals."""
    start = 0.0
    for event in recognizer.stream(samples, SessionConfig(lm_for="none")):
        if isinstance(event, SpeechStarted):
            start = event.start
        elif isinstance(event, SpeechEnded):
            first, last = round(start * SAMPLE_RATE), round(event.end * SAMPLE_RATE)
            if last - first >= FIELD:
                yield first, last
