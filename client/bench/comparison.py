"""Runs baselines in turns on the same audio and measures errors and time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...streaming.frames import SAMPLE_RATE
from ..output.progress import progress
from .baselines import Baseline
from .scoring import TextNormalizer, TranscriptScores
from .steps import timed
from .tables import Table, percent

Utterance = tuple[str, NDArray[np.float32]]  # reference, and 16 kHz samples, (n,)


@dataclass(slots=True)
class BaselineResult:
    """One baseline on one set of utterances."""

    baseline: Baseline
    scores: TranscriptScores = field(default_factory=TranscriptScores)
    seconds: float = 0.0  # of audio
    cpu: float = 0.0  # seconds, all threads of this process
    wall: float = 0.0

    @property
    def cost(self) -> float:
        """CPU seconds for each second of audio."""
        return self.cpu / self.seconds

    def report(self) -> dict[str, Any]:
        return {
            "contender": self.baseline.name,
            "structure": self.baseline.structure,
            **self.scores.report(),
            "seconds": self.seconds,
            "cpu_per_s": self.cost,
            "wall_per_s": self.wall / self.seconds,
            "texts": self.scores.texts,
        }


def run(
    baselines: Sequence[Baseline], utterances: Sequence[Utterance], normalizer: TextNormalizer
) -> list[BaselineResult]:
    """Run every baseline on every utterance, in turns, so other load on the machine affects all of them."""
    results = [BaselineResult(baseline) for baseline in baselines]
    for baseline in baselines:
        baseline.recognize(utterances[0][1])  # warm up: the first call includes set-up
    with progress(len(utterances)) as (advance, _):
        for reference, samples in utterances:
            for result in results:
                text, cpu, wall = timed(lambda result=result, samples=samples: result.baseline.recognize(samples))
                result.seconds += len(samples) / SAMPLE_RATE
                result.cpu += cpu
                result.wall += wall
                result.scores.add(normalizer, reference, text)
            advance()
    return results


def join(utterances: Sequence[Utterance], seconds: float) -> list[Utterance]:
    """Join consecutive utterances into long ones of just over `seconds`; repeat them if they are too short for one."""
    joined: list[Utterance] = []
    texts: list[str] = []
    parts: list[NDArray[np.float32]] = []
    for text, samples in _rounds(utterances, seconds):
        texts.append(text)
        parts.append(samples)
        if sum(map(len, parts)) >= seconds * SAMPLE_RATE:
            joined.append((" ".join(texts), np.concatenate(parts)))
            texts, parts = [], []
    return joined


def _rounds(utterances: Sequence[Utterance], seconds: float) -> Iterator[Utterance]:
    total = sum(len(samples) for _, samples in utterances)
    rounds = max(1, -(-round(seconds * SAMPLE_RATE) // total))
    for _ in range(rounds):
        yield from utterances


def table(name: str, results: Sequence[BaselineResult]) -> Table:
    first = results[0]
    rows = [
        [
            result.baseline.name,
            percent(result.scores.wer),
            result.scores.interval,
            f"{result.cost:.4f}",
            f"{result.cost / first.cost:.2f}",
            result.baseline.structure,
        ]
        for result in results
    ]
    columns = ["", "WER", "95 %", "CPU s per s", f"times {first.baseline.name}", "audio that a word waits for"]
    return Table(f"Comparison on {name}, {first.seconds:.0f} s", columns, rows)
