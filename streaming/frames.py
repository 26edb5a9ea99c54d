"""Frame arithmetic of XLS-R's convolutional encoder.

One unit everywhere: samples at 16 kHz, counted from the start of the session, never wrapping. Frame `i` of an
utterance that starts at sample `s` covers samples `[s + 320 i, s + 320 i + 400)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

SAMPLE_RATE: Final = 16_000  # samples a second
CONV_KERNELS: Final = (10, 3, 3, 3, 3, 2, 2)  # from wav2vec 2.0 (arXiv 2006.11477), the same in all XLS-R checkpoints
CONV_STRIDES: Final = (5, 2, 2, 2, 2, 2, 2)


def geometry(kernels: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """Stride and receptive field of a stack of convolutions, in samples."""
    stride, field = 1, 1
    for kernel, step in zip(kernels, strides, strict=True):
        field += (kernel - 1) * stride
        stride *= step
    return stride, field


STRIDE, FIELD = geometry(CONV_KERNELS, CONV_STRIDES)  # 320 and 400 samples: 20 ms and 25 ms


def frames(samples: int) -> int:
    """Frames in `samples` samples; 0 for less than one receptive field."""
    return max(0, (samples - FIELD) // STRIDE + 1)


def span(count: int) -> int:
    """Fewest samples that make `count` frames."""
    return STRIDE * count + FIELD - STRIDE if count > 0 else 0


def too_short(samples: int, rate: int = SAMPLE_RATE) -> str:
    """The message about audio that is shorter than one frame."""
    return f"{1000 * samples // rate} ms of audio; at least {1000 * FIELD // SAMPLE_RATE} ms are needed"


def ms(milliseconds: float) -> int:
    """Milliseconds as samples."""
    return round(milliseconds * SAMPLE_RATE / 1000)


def seconds(samples: int) -> float:
    """Samples as seconds, rounded to milliseconds."""
    return round(samples / SAMPLE_RATE, 3)
