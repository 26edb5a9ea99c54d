"""From planned items to tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np
from torch.utils.data import DataLoader, Dataset

from .. import augment
from ..augment import Samples
from ..batch import Batch, collate
from ..settings import Augmentation
from .plan import Item, Step
from .prepare import Utterance, load
from .settings import Work
from .text import encode

SOURCES = ("real", "synthetic", "kokoro", "noise")


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

    def example(self, item: Item, how: Augmentation) -> tuple[Samples, Samples]:
        """The augmented waveform of `item`, and the same before it was disturbed."""
        draw = np.random.default_rng(item.seed)
        noise = self.audio(self.noise[draw.integers(len(self.noise))])
        pieces = [self.audio(u) for u in item.parts]
        clean = augment.spoken(pieces, list(item.gaps), item.speed, draw)
        return augment.disturbed(clean, noise, how, draw), clean


class Rounds(Dataset):
    """Batches of one round, by step and part; with `clean`, for a teacher, also of the undisturbed rows."""

    def __init__(self, speech: Speech, steps: list[Step], how: Augmentation, *, clean: bool = False):
        self.speech, self.steps, self.how, self.clean = speech, steps, how, clean

    def __getitem__(self, at: tuple[int, int]) -> Batch:
        items = self.steps[at[0]][at[1]]
        rows, clean = zip(*(self.speech.example(item, self.how) for item in items), strict=True)
        draw = np.random.default_rng((*items[0].seed, 1))
        batch = collate(rows, [encode(item.text) for item in items], self.how, draw)
        return replace(batch, clean=clean) if self.clean else batch


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
