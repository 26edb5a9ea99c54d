"""The plan of an epoch: a function of the seed, the epoch's number, and the sizes of steps and parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..streaming.frames import SAMPLE_RATE, frames
from . import augment
from .augment import Samples
from .batch import Batch, collate, packed
from .recordings import Audio
from .settings import Augmentation
from .survey import Spoken, needed

EDGE = 0.4  # seconds of silence before and after an example, at most: the gate leaves some


@dataclass(frozen=True, slots=True)
class Example:
    """A recording as it is played once: how fast, and with how many samples of silence around it."""

    spoken: Spoken
    before: int
    after: int
    speed: float
    seed: tuple[int, ...]

    @property
    def samples(self) -> int:
        return int((self.spoken.samples + self.before + self.after) / self.speed)


StepParts = list[list[Example]]


def plan_epoch(
    number: int, spoken: Sequence[Spoken], seconds: float, part_seconds: float, seed: int, how: Augmentation
) -> list[StepParts]:
    """Every recording once, in steps of at most `seconds` of padded audio, each in parts of at most `part_seconds`."""
    draw = np.random.default_rng((seed, number))
    examples = [_example(each, (seed, number, i), how, draw) for i, each in enumerate(spoken)]
    steps = [packed(step, part_seconds) for step in packed(examples, seconds)]
    return [steps[i] for i in draw.permutation(len(steps))]


def _example(spoken: Spoken, seed: tuple[int, ...], how: Augmentation, draw: np.random.Generator) -> Example:
    before, after = (int(SAMPLE_RATE * draw.uniform(0, EDGE)) for _ in range(2))
    speed = float(draw.uniform(*how.speed)) if draw.random() < 2 / 3 else 1.0
    # Where the text needs nearly all frames, faster audio could not hold it.
    if speed > 1 and frames(int(spoken.samples / speed)) < 1.2 * needed(spoken.labels):
        speed = 1.0
    return Example(spoken, before, after, speed, seed)


class Examples:
    """Makes batches of planned examples. `noise` are clips without speech; without any, noise has a random colour."""

    def __init__(self, audio: Audio, noise: Sequence[Samples], how: Augmentation, *, normalized: bool) -> None:
        self._audio, self._noise, self._how, self._normalized = audio, noise, how, normalized

    def batch(self, examples: Sequence[Example]) -> Batch:
        rows = [self._row(example) for example in examples]
        draw = np.random.default_rng((*examples[0].seed, 1))
        return collate(rows, [example.spoken.labels for example in examples], self._how, draw)

    def _row(self, example: Example) -> Samples:
        """(samples,) float32, normalized or as loud as recorded, as the model expects; its level varies."""
        draw = np.random.default_rng(example.seed)
        piece = self._audio(example.spoken.decoded)
        noise = self._noise[int(draw.integers(len(self._noise)))] if self._noise else augment.coloured(len(piece), draw)
        x = augment.example([piece], [example.before, example.after], example.speed, noise, self._how, draw)
        return x if self._normalized else x * np.float32(example.spoken.decoded.level)
