"""Texts and word errors of validation clips, offline and as live steps give them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from .augment import Samples
from .batch import packed
from .network import Network, StepLengths, frames


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
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            logits = network(samples.to(device), lengths.to(device), stream)[0].float().cpu().numpy()
        for each, row in zip(batch, logits, strict=True):
            texts[each.number] = read(row[: frames(each.samples)])
    return texts


def word_errors(want: str, got: str) -> int:
    """Fewest words to insert, delete or replace to turn `got` into `want`."""
    a, b = want.split(), got.split()
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[-1]
