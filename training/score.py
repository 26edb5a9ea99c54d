"""Texts and errors of validation clips, offline and as live steps give them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from .augment import Samples
from .batch import packed
from .network import Network, StepLengths, frames
from .precision import mixed

SATURATED: Final = 0.8  # word error rate


class _Numbered:
    """A clip in the batch that it is packed into."""

    def __init__(self, number: int, samples: int) -> None:
        self.number, self.samples = number, samples


@torch.inference_mode()
def transcribe(
    network: Network,
    clips: Sequence[Samples],
    read: Callable[[NDArray[np.float32]], str],
    device: torch.device,
    stream: StepLengths | None = None,
    seconds: float = 60.0,
) -> list[str]:
    """Texts in the order of `clips`; batches of at most `seconds` of padded audio.

    `read` takes the logits (frames, vocabulary) of a clip. `stream` None is one pass with full attention.
    """
    network.eval()
    texts = [""] * len(clips)
    for batch in packed([_Numbered(number, len(clip)) for number, clip in enumerate(clips)], seconds):
        lengths = torch.tensor([each.samples for each in batch])
        samples = torch.zeros(len(batch), int(lengths.max()))
        for row, each in zip(samples, batch, strict=True):
            row[: each.samples] = torch.from_numpy(clips[each.number])
        with mixed(device):
            logits = network(samples.to(device), lengths.to(device), stream)[0].float().cpu().numpy()
        for each, row in zip(batch, logits, strict=True):
            texts[each.number] = read(row[: frames(each.samples)])
    return texts


def word_errors(want: str, got: str) -> int:
    """Fewest words to insert, delete or replace to turn `got` into `want`."""
    return edits(want.split(), got.split())


def edits(want: Sequence[str], got: Sequence[str]) -> int:
    """Fewest items to insert, delete or replace to turn `got` into `want`: of strings, characters."""
    row = list(range(len(got) + 1))
    for i, x in enumerate(want, 1):
        corner, row[0] = row[0], i
        for j, y in enumerate(got, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[-1]


class ErrorRates(NamedTuple):
    """Of all texts together, as shares."""

    words: float
    characters: float

    @classmethod
    def of(cls, wanted: Sequence[str], texts: Sequence[str]) -> Self:
        pairs = list(zip(wanted, texts, strict=True))
        words = sum(word_errors(*pair) for pair in pairs) / sum(len(want.split()) for want in wanted)
        return cls(words, sum(edits(*pair) for pair in pairs) / sum(map(len, wanted)))


def badness(offline: ErrorRates, live: ErrorRates) -> float:
    """Orders weights by validation: by words in error, but from `SATURATED` on, where those are chance, by
    characters."""
    words = (offline.words + live.words) / 2
    return words if words < SATURATED else SATURATED + (offline.characters + live.characters) / 2
