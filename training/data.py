"""From planned items to tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from . import augment
from .network import frames
from .plan import Item, Step
from .prepare import Utterance, load
from .settings import FRAME, Augmentation, Work
from .text import encode

SOURCES = ("real", "synthetic", "kokoro", "noise")


@dataclass(frozen=True)
class Batch:
    samples: Tensor  # (batch, samples) float32, zero after each row's length
    lengths: Tensor  # (batch,) samples
    labels: Tensor  # all targets, end to end
    label_lengths: Tensor  # (batch,)
    masks: Tensor  # (batch, frames) bool, True where SpecAugment hides a frame


class Speech:
    """Every prepared recording, mapped."""

    def __init__(self, work: Work):
        loaded = {source: load(work, source) for source in SOURCES}
        self.samples = {source: samples for source, (samples, _) in loaded.items()}
        self.utterances = [u for _, table in loaded.values() for u in table]
        self.noise = [u for u in self.utterances if u.corpus == "noise" and u.split == "train"]

    def audio(self, u: Utterance) -> np.ndarray:
        """(samples,) float32 in [-1, 1)."""
        return self.samples[u.source][u.start : u.start + u.samples].astype(np.float32) / 32768

    def example(self, item: Item, how: Augmentation) -> np.ndarray:
        """The augmented waveform of `item`, (samples,) float32."""
        draw = np.random.default_rng(item.seed)
        noise = self.audio(self.noise[draw.integers(len(self.noise))])
        pieces = [self.audio(u) for u in item.parts]
        return augment.example(pieces, list(item.gaps), item.speed, noise, how, draw)


class Rounds(Dataset):
    """Batches of one round, by step and part."""

    def __init__(self, speech: Speech, steps: list[Step], how: Augmentation):
        self.speech, self.steps, self.how = speech, steps, how

    def __getitem__(self, at: tuple[int, int]) -> Batch:
        items = self.steps[at[0]][at[1]]
        rows = [self.speech.example(item, self.how) for item in items]
        draw = np.random.default_rng((*items[0].seed, 1))
        return collate(rows, [item.text for item in items], self.how, draw)


def collate(rows: list[np.ndarray], texts: list[str], how: Augmentation, draw: np.random.Generator) -> Batch:
    """Pad waveforms to the longest and draw the time masks."""
    lengths = np.array([max(len(row), FRAME) for row in rows])
    samples = np.zeros((len(rows), lengths.max()), np.float32)
    masks = np.zeros((len(rows), frames(int(lengths.max()))), bool)
    for i, row in enumerate(rows):
        samples[i, : len(row)] = row
        count = frames(int(lengths[i]))
        masks[i, :count] = augment.masks(count, how, draw)
    labels = [encode(text) for text in texts]
    return Batch(
        torch.from_numpy(samples),
        torch.from_numpy(lengths),
        torch.tensor([label for row in labels for label in row]),
        torch.tensor([len(row) for row in labels]),
        torch.from_numpy(masks),
    )


def loader(rounds: Rounds, first: int, workers: int) -> Iterable[list[Callable[[], Batch]]]:
    """The parts of each step from number `first` on, as functions that make them.

    With `workers`, other processes make them ahead; with 0, the calling thread makes them.
    """
    places = [[(at, part) for part in range(len(rounds.steps[at]))] for at in range(first, len(rounds.steps))]
    if not workers:
        yield from ([partial(rounds.__getitem__, place) for place in step] for step in places)
        return
    flat = [place for step in places for place in step]
    made = iter(DataLoader(rounds, batch_size=None, sampler=flat, num_workers=workers, prefetch_factor=4))
    yield from ([partial(_same, next(made)) for _ in step] for step in places)


def _same(batch: Batch) -> Batch:
    return batch
