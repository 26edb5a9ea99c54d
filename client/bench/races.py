"""Contenders in turns on the same audio, timed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...streaming.frames import SAMPLE_RATE
from ..output.progress import progress
from .contenders import Contender
from .measured import Texts
from .scoring import Spelling
from .steps import timed
from .tables import Table, percent

Said = tuple[str, NDArray[np.float32]]  # what is said, and 16 kHz samples, (n,)


@dataclass(slots=True)
class Result:
    """One contender on one material."""

    contender: Contender
    texts: Texts = field(default_factory=Texts)
    seconds: float = 0.0  # of audio
    cpu: float = 0.0  # seconds, all threads of this process
    wall: float = 0.0

    @property
    def cost(self) -> float:
        """CPU seconds for each second of audio."""
        return self.cpu / self.seconds

    def report(self) -> dict[str, Any]:
        return {
            "contender": self.contender.name,
            "structure": self.contender.structure,
            **self.texts.report(),
            "seconds": self.seconds,
            "cpu_per_s": self.cost,
            "wall_per_s": self.wall / self.seconds,
            "texts": self.texts.heard,
        }


def race(contenders: Sequence[Contender], material: Sequence[Said], spelling: Spelling) -> list[Result]:
    """Every contender on every utterance, in turns, so that whatever else the machine does falls on all of them."""
    results = [Result(contender) for contender in contenders]
    for contender in contenders:
        contender.recognize(material[0][1])  # the first call of anything pays for more than itself
    with progress(len(material)) as (advance, _):
        for said, samples in material:
            for result in results:
                heard, cpu, wall = timed(lambda result=result, samples=samples: result.contender.recognize(samples))
                result.seconds += len(samples) / SAMPLE_RATE
                result.cpu += cpu
                result.wall += wall
                result.texts.add(spelling, said, heard)
            advance()
    return results


def joined(material: Sequence[Said], seconds: float) -> list[Said]:
    """As many utterances of just over `seconds` as the recordings fill one after another, at least one: recordings
    that are too few for it come round again."""
    long: list[Said] = []
    texts: list[str] = []
    parts: list[NDArray[np.float32]] = []
    for said, samples in _rounds(material, seconds):
        texts.append(said)
        parts.append(samples)
        if sum(map(len, parts)) >= seconds * SAMPLE_RATE:
            long.append((" ".join(texts), np.concatenate(parts)))
            texts, parts = [], []
    return long


def _rounds(material: Sequence[Said], seconds: float) -> Iterator[Said]:
    total = sum(len(samples) for _, samples in material)
    rounds = max(1, -(-round(seconds * SAMPLE_RATE) // total))
    for _ in range(rounds):
        yield from material


def table(name: str, results: Sequence[Result]) -> Table:
    first = results[0]
    rows = [
        [
            result.contender.name,
            percent(result.texts.wer),
            result.texts.interval,
            f"{result.cost:.4f}",
            f"{result.cost / first.cost:.2f}",
            result.contender.structure,
        ]
        for result in results
    ]
    columns = ["", "WER", "95 %", "CPU s per s", f"times {first.contender.name}", "what a word waits for in audio"]
    return Table(f"Comparison on {name}, {first.seconds:.0f} s", columns, rows)
