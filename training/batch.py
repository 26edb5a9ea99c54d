"""Batches of examples: packing by length, padding, time masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..streaming.frames import FIELD, SAMPLE_RATE, frames
from . import augment
from .augment import Samples
from .settings import Augmentation


class Sized(Protocol):
    @property
    def samples(self) -> int: ...


T = TypeVar("T", bound=Sized)


@dataclass(frozen=True)
class Batch:
    samples: Tensor  # (batch, samples) float32, zero after each row's length
    lengths: Tensor  # (batch,) samples
    labels: Tensor  # all targets, end to end
    label_lengths: Tensor  # (batch,)
    masks: Tensor  # (batch, frames) bool, True where SpecAugment hides a frame
    clean: tuple[Samples, ...] = ()  # the rows before they were disturbed, with an RMS of 1: for a teacher


def packed(items: Iterable[T], seconds: float) -> list[list[T]]:
    """Pack neighbours in length into batches of at most `seconds`, padding included, shortest first. An item that is
    longer is a batch by itself."""
    batches: list[list[T]] = [[]]
    for item in sorted(items, key=lambda item: item.samples):
        if batches[-1] and (len(batches[-1]) + 1) * item.samples > seconds * SAMPLE_RATE:
            batches.append([])
        batches[-1].append(item)
    return batches


def collate(
    rows: Sequence[Samples], labels: Sequence[Sequence[int]], how: Augmentation, draw: np.random.Generator
) -> Batch:
    """Pad waveforms to the longest and draw the time masks."""
    lengths = np.array([max(len(row), FIELD) for row in rows])
    samples = np.zeros((len(rows), lengths.max()), np.float32)
    masks = np.zeros((len(rows), frames(int(lengths.max()))), bool)
    for i, row in enumerate(rows):
        samples[i, : len(row)] = row
        count = frames(int(lengths[i]))
        masks[i, :count] = augment.masks(count, how, draw)
    return Batch(
        torch.from_numpy(samples),
        torch.from_numpy(lengths),
        torch.tensor([label for row in labels for label in row], dtype=torch.long),
        torch.tensor([len(row) for row in labels]),
        torch.from_numpy(masks),
    )
