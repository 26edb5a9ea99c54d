"""Whether a device computes what it should: every way in which batches, graphs and formats could change the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...streaming.frames import span
from ...streaming.model.encoder import XlsrEncoder
from ...streaming.model.runners import EagerRunner, GraphRunner
from ...streaming.requests import CachedFeatures, CachedStep, CacheHandle
from ...streaming.session.planner import WindowPlanner
from . import random_xlsr
from .random_xlsr import weights

Float32 = NDArray[np.float32]

HOP, LOOKAHEAD, LEFT = 24, 24, 200  # frames: the defaults


class Check(NamedTuple):
    name: str
    found: float  # the largest difference between log-probabilities, or what the name says
    bound: float
    passed: bool


def noise(seconds: float, seed: int) -> Float32:
    return np.random.default_rng(seed).standard_normal(int(16_000 * seconds)).astype(np.float32)


def stepped(encoder: XlsrEncoder, batch: Sequence[Float32]) -> tuple[list[Float32], list[CachedFeatures]]:
    """All rows of audio of equal lengths by live steps, all in one batch; and what they leave to be recalled."""
    memories = [CacheHandle(LEFT, LOOKAHEAD) for _ in batch]
    planner = WindowPlanner(hop=HOP, lookahead=LOOKAHEAD, left_context=LEFT)
    rows: list[list[Float32]] = [[] for _ in batch]
    windows = planner.plan(len(batch[0]))
    for w in windows:
        asked = [(x[slice(*w.new_samples)], CachedStep(memory, w)) for x, memory in zip(batch, memories, strict=True)]
        for own, answer in zip(rows, encoder.encode_steps(asked), strict=True):
            own.append(answer[: w.commit - w.committed])
    return [np.concatenate(own) for own in rows], [CachedFeatures(memory, windows[-1].newest) for memory in memories]


def checks(size: str, device: torch.device, half: torch.dtype) -> Iterator[Check]:
    """One after the other as they are done. Float32 checks are of the arrangement, the others of the format."""
    batch = [noise(4, seed) for seed in range(5)]
    exact = random_xlsr.encoder(size, device, torch.float32, max_batch=8, programs=EagerRunner(device))
    plain, _ = stepped(exact, batch)
    alone = [stepped(exact, [samples])[0][0] for samples in batch]
    whole = [exact.encode([samples])[0] for samples in batch]
    yield _near("float32: steps in a batch and alone", plain, alone, 1e-3)
    uneven = [samples[: len(samples) - 1_600 * index] for index, samples in enumerate(batch)]
    singly = [exact.encode([samples])[0] for samples in uneven]
    yield _near("float32: whole passes in a padded batch and alone", exact.encode(uneven), singly, 1e-3)
    yield _near("float32: a whole pass and transformers' forward", whole, _reference(size, device, batch), 1e-3)
    yield _near("float32: one step over everything and a whole pass", _one_step(exact, batch[0]), whole[:1], 1e-3)
    del exact
    full = random_xlsr.encoder(size, device, half, max_batch=8, programs=EagerRunner(device))
    graphs = GraphRunner(device, capture=None if device.type == "cuda" else _again)
    fast = random_xlsr.encoder(size, device, half, max_batch=8, programs=graphs)
    name = str(half).removeprefix("torch.")
    for _ in range(2):  # so that each shape has come often enough
        stepped(fast, batch)
    replayed, recalls = stepped(fast, batch)
    eager, _ = stepped(full, batch)
    yield _near(f"{name}: replayed graphs and plain steps", replayed, eager, 0.1)
    yield Check(f"{name}: runs that were replayed", graphs.replays, 1, graphs.replays >= 1)
    yield _near(
        f"{name}: a pass that recalls features and a plain one", fast.encode(batch, recalls), fast.encode(batch), 0.1
    )
    yield _near(f"{name} and float32: steps, mean difference", eager, plain, 0.1, mean=True)
    agreeing = float(np.mean(np.concatenate([a.argmax(1) == b.argmax(1) for a, b in zip(eager, plain, strict=True)])))
    yield Check(f"{name} and float32: frames with the same best token", agreeing, 0.9, agreeing >= 0.9)
    del full, fast
    many = random_xlsr.encoder(size, device, half, vocabulary=500, programs=EagerRunner(device))
    rows = many.encode(batch[:1])[0]
    total = float(np.abs(np.exp(rows.astype(np.float64)).sum(1) - 1).max())
    yield Check(f"{name}: 500 tokens, probabilities of a frame add up to 1", total, 1e-3, total <= 1e-3)


def _near(name: str, found: Sequence[Float32], want: Sequence[Float32], bound: float, *, mean: bool = False) -> Check:
    each = [np.abs(a - b) for a, b in zip(found, want, strict=True)]
    difference = float(np.mean(np.concatenate(each)) if mean else max(x.max() for x in each))
    return Check(name, difference, bound, difference <= bound)


@torch.inference_mode()
def _reference(size: str, device: torch.device, batch: Sequence[Float32]) -> list[Float32]:
    model = weights(size, device)
    audio = [torch.from_numpy(samples)[None].to(device) for samples in batch]
    return [model(x).logits[0].log_softmax(-1).cpu().numpy() for x in audio]


def _one_step(encoder: XlsrEncoder, samples: Float32) -> list[Float32]:
    window = WindowPlanner(hop=1_000, lookahead=0, left_context=0).finish(len(samples))
    assert window is not None  # there are samples
    memory = CacheHandle(0, 0)
    rows = encoder.encode_steps([(samples[: span(window.newest)], CachedStep(memory, window))])
    encoder.release(memory.number)
    return rows


def _again(program: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
    """For a device without graphs: the same buffers, and the work done once more."""
    answer = program()

    def replay() -> None:
        answer.copy_(program())

    return replay, answer
