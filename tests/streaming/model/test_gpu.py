"""Batches, graphs and number formats do not change the results of a device.

On a CPU these run with a tiny model and a stand-in for graphs; `pytest -m gpu` runs them on a CUDA device, with a tiny
model and with XLS-R at its published sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pytest
import torch
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.frames import span
from xlsr_live.streaming.model.device import set_up
from xlsr_live.streaming.model.encoder import XlsrEncoder
from xlsr_live.streaming.model.preparing import Limits
from xlsr_live.streaming.model.runners import EagerRunner, GraphRunner
from xlsr_live.streaming.requests import CachedFeatures, CachedStep, CacheHandle
from xlsr_live.streaming.session.planner import WindowPlanner

from tests.support import random_xlsr
from tests.support.checkpoints import XLSR_1B, XLSR_2B, XLSR_300M
from tests.support.graphs import again
from tests.support.random_xlsr import SIZES, noise, stepped, weights

Float32 = np.ndarray
HALF = torch.bfloat16
CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is available here")]


class Device:
    """Encoders with the same weights, in float32 and in half precision, and audio for them."""

    def __init__(self, name: str, size: str) -> None:
        set_up(torch.device(name))
        self.device, self.size = torch.device(name), size
        self.batch = [noise(4, seed) for seed in range(5)]

    def encoder(self, dtype: torch.dtype, runner: EagerRunner | GraphRunner, vocabulary: int = 32) -> XlsrEncoder:
        return random_xlsr.encoder(self.size, self.device, dtype, vocabulary=vocabulary, max_batch=8, runner=runner)

    @cached_property
    def exact(self) -> XlsrEncoder:
        return self.encoder(torch.float32, EagerRunner(self.device))

    @cached_property
    def half(self) -> XlsrEncoder:
        return self.encoder(HALF, EagerRunner(self.device))

    @cached_property
    def exact_steps(self) -> list[Float32]:
        return stepped(self.exact, self.batch)[0]

    @cached_property
    def half_steps(self) -> list[Float32]:
        return stepped(self.half, self.batch)[0]

    @cached_property
    def graphs(self) -> GraphRunner:
        return GraphRunner(self.device, capture=None if self.device.type == "cuda" else again)

    @cached_property
    def replayed(self) -> tuple[XlsrEncoder, list[Float32], list[CachedFeatures]]:
        """The encoder with graphs of every shape."""
        encoder = self.encoder(HALF, self.graphs)
        limits = Limits(memory=lambda: 0, most_bytes=0, most_s=600)
        encoder.prepare(SessionConfig(), self.graphs, utterances=16, limits=limits)
        return encoder, *stepped(encoder, self.batch)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("cpu", "tiny"), id="cpu-tiny"),
        *(pytest.param(("cuda", size), id=f"cuda-{size}", marks=CUDA) for size in ("tiny", "300m", "1b", "2b")),
    ],
)
def device(request: pytest.FixtureRequest) -> Device:
    return Device(*request.param)


def error(rows: Sequence[Float32], others: Sequence[Float32]) -> float:
    """Of rows against others, relative to these."""
    found, wanted = np.concatenate(list(rows)), np.concatenate(list(others))
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def same_tokens(rows: Sequence[Float32], others: Sequence[Float32]) -> float:
    """The share of frames with the same best token."""
    return float(np.mean(np.concatenate([a.argmax(1) == b.argmax(1) for a, b in zip(rows, others, strict=True)])))


def test_steps_do_not_depend_on_their_batch(device: Device):
    alone = [stepped(device.exact, [samples])[0][0] for samples in device.batch]
    assert error(device.exact_steps, alone) < 1e-3


def test_full_passes_do_not_depend_on_padding(device: Device):
    uneven = [samples[: len(samples) - 1_600 * index] for index, samples in enumerate(device.batch)]
    alone = [device.exact.encode([samples])[0] for samples in uneven]
    assert error(device.exact.encode(uneven), alone) < 1e-3


def test_a_full_pass_is_the_forward_of_transformers(device: Device):
    model = weights(device.size, device.device)
    with torch.inference_mode():
        audio = [torch.from_numpy(samples)[None].to(device.device) for samples in device.batch]
        expected = [model(x).logits[0].log_softmax(-1).cpu().numpy() for x in audio]
    ours = [device.exact.encode([samples])[0] for samples in device.batch]
    assert error(ours, expected) < 1e-3


def test_one_step_over_the_whole_utterance_is_a_full_pass(device: Device):
    samples = device.batch[0]
    window = WindowPlanner(hop=1_000, lookahead=0, left_context=0).finish(len(samples))
    assert window is not None
    handle = CacheHandle(0, 0)
    rows = device.exact.encode_steps([(samples[: span(window.newest)], CachedStep(handle, window))])
    device.exact.release(handle.number)
    assert error(rows, device.exact.encode([samples])) < 1e-3


# Kernels that a library chooses by shape round differently: a bound for half precision is relative.


def test_replayed_graphs_compute_plain_steps(device: Device):
    _, rows, _ = device.replayed
    assert device.graphs.misses == 0 < device.graphs.replays
    assert error(rows, device.half_steps) < 0.03
    assert same_tokens(rows, device.half_steps) > 0.95


def test_a_pass_with_cached_features_is_a_plain_pass(device: Device):
    encoder, _, cached = device.replayed
    assert error(encoder.encode(device.batch, cached), encoder.encode(device.batch)) < 0.03


def test_half_precision_stays_near_float32(device: Device):
    assert error(device.half_steps, device.exact_steps) < 0.03
    assert same_tokens(device.half_steps, device.exact_steps) >= 0.9


def test_probabilities_over_500_tokens_sum_to_1(device: Device):
    many = device.encoder(HALF, EagerRunner(device.device), vocabulary=500)
    (rows,) = many.encode(device.batch[:1])
    assert np.abs(np.exp(rows.astype(np.float64)).sum(1) - 1).max() < 1e-3


def test_sizes_are_the_published_ones():
    for name, published in (("300m", XLSR_300M), ("1b", XLSR_1B), ("2b", XLSR_2B)):
        assert all(published[key] == value for key, value in SIZES[name].items())
