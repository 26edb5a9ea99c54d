"""Times of a device: steps by batch size with a profile, full passes by length, and the stages of a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from xlsr_live.streaming.frames import frames, span
from xlsr_live.streaming.model.batching import plan_steps
from xlsr_live.streaming.model.cache import Slot, SlotShape
from xlsr_live.streaming.model.encoder import XlsrEncoder
from xlsr_live.streaming.model.gathering import with_cached
from xlsr_live.streaming.model.layers import XlsrLayers, flop_per_frame
from xlsr_live.streaming.model.readback import BEST, pack
from xlsr_live.streaming.model.runners import CudaCapture
from xlsr_live.streaming.model.shapes import Shape
from xlsr_live.streaming.requests import CachedStep, CacheHandle, Window
from xlsr_live.streaming.session.planner import WindowPlanner

from tests.support.random_xlsr import HOP, LEFT, LOOKAHEAD, noise

Float32 = NDArray[np.float32]

LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 20)  # seconds of an utterance
_WARM = 12  # steps until the left context is full
_PROFILED = 5  # steps


class StepTime(NamedTuple):
    batch: int
    median: float  # seconds, from samples to rows on the host
    p95: float
    utilisation: float | None  # share of the device's peak, if known


class PassTime(NamedTuple):
    length: float  # seconds of audio
    batch: int
    median: float  # seconds
    utilisation: float | None

    @property
    def rate(self) -> float:
        """Seconds of audio per second."""
        return self.batch * self.length / self.median


def step_time(
    encoder: XlsrEncoder, config: Any, peak: float | None, batch: int, repeats: int
) -> tuple[StepTime, dict[str, Any]]:
    """Steps of `batch` utterances in their middle, and a profile of some of them."""
    calls = _steps(encoder, batch, _WARM + repeats + _PROFILED)
    taken = [timed(next(calls)) for _ in range(_WARM + repeats)][_WARM:]
    found = profiled(lambda: [call() for call in calls])
    median = float(np.median(taken))
    flop = batch * (HOP + LOOKAHEAD) * flop_per_frame(config, LEFT + HOP + LOOKAHEAD)
    return StepTime(batch, median, float(np.quantile(taken, 0.95)), peak and flop / median / peak), found


def _steps(encoder: XlsrEncoder, batch: int, count: int) -> Iterator[Callable[[], object]]:
    planner = WindowPlanner(hop=HOP, lookahead=LOOKAHEAD, left_context=LEFT)
    windows = planner.plan(span(HOP * count))
    handles = [CacheHandle(LEFT, LOOKAHEAD) for _ in range(batch)]
    audio = noise(windows[-1].newest * 0.02 + 0.1, 0)
    for window in windows:
        samples = audio[slice(*window.new_samples)]
        steps = [(samples, CachedStep(handle, window)) for handle in handles]
        yield lambda steps=steps: encoder.encode_steps(steps)
    for handle in handles:
        encoder.release(handle.number)


def profiled(run: Callable[[], object]) -> dict[str, Any]:
    """Kernels, the share of time without one, and the ten kinds that take most; operators without a GPU."""
    cuda = torch.cuda.is_available()
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as found:
        run()
        if cuda:
            torch.cuda.synchronize()
    kernels = sorted(
        (event.time_range.start, event.time_range.end)
        for event in cast(Any, found.events())
        if event.device_type == torch.autograd.DeviceType.CUDA
    )
    busy, last = 0.0, kernels[0][0] if kernels else 0.0
    for start, end in kernels:
        busy += max(0.0, end - max(start, last))
        last = max(last, end)
    whole = last - kernels[0][0] if kernels else 0.0
    kind = "self_device_time_total" if cuda else "self_cpu_time_total"
    top = sorted(found.key_averages(), key=lambda event: -getattr(event, kind))[:10]
    return {
        "kernels": len(kernels),
        "gaps": 1 - busy / whole if whole else None,
        "top": [[event.key[:60], event.count, getattr(event, kind) / 1e6] for event in top],
    }


def pass_times(encoder: XlsrEncoder, config: Any, peak: float | None, *, repeats: int) -> Iterator[PassTime]:
    """Full passes of one utterance, and of the largest batch."""
    for seconds in LENGTHS:
        samples = noise(seconds, seconds)
        most = 1
        while most < encoder.max_batch and encoder.fits(len(samples), [len(samples)] * (2 * most - 1)):
            most *= 2
        for batch in sorted({1, most}):
            audio = [samples] * batch
            taken = [timed(lambda audio=audio: encoder.encode(audio)) for _ in range(3 + repeats)][3:]
            median = float(np.median(taken))
            count = frames(len(samples))
            flop = batch * count * flop_per_frame(config, count)
            yield PassTime(seconds, batch, median, peak and flop / median / peak)


@torch.inference_mode()
def stage_times(model: Any, batch: int, *, repeats: int) -> dict[str, float]:
    """Seconds of each part of a step of `batch` utterances, measured separately with one graph for each part."""
    network = XlsrLayers(model)
    device, queries = model.device, HOP + LOOKAHEAD
    pool = network.pool(SlotShape.of(CacheHandle(LEFT, LOOKAHEAD)))
    pool.grow(batch + 1)
    slots = [Slot(pool, slot + 1, ring=LEFT) for slot in range(batch)]
    window = Window(11, 40, 240, 240 + HOP, 240 + queries, 240 + queries - HOP)
    shape = Shape(batch, queries, HOP, HOP)
    audio = [noise(span(HOP) / 16_000, 0)[: span(HOP)]] * batch

    def plan() -> NDArray[np.int32]:
        return np.concatenate(plan_steps(shape, audio, [window] * batch, slots, network.reach))

    words = torch.from_numpy(plan())
    staged = words.pin_memory() if device.type == "cuda" else words
    on_device = staged.to(device)
    samples = on_device[: batch * span(HOP)].view(torch.float32).view(batch, -1)
    near = torch.randn(batch, network.reach + queries, network.hidden, device=device, dtype=network.dtype)
    x = network.positioned(near)
    indices = torch.arange(1, batch + 1, device=device)
    kept = torch.arange(batch * HOP, device=device)
    valid = torch.ones(batch, queries, dtype=torch.bool, device=device)
    mask = network.bias(torch.ones(batch, 1, 1, LEFT + queries, dtype=torch.bool, device=device))
    mask = mask.expand(-1, -1, queries, -1)
    own = torch.randn(batch, queries, 2 * network.hidden, device=device, dtype=network.dtype)
    best = BEST if device.type == "cuda" else None
    answer = pack(network.log_probs(x), valid, best=best)[0]
    fetched = torch.empty_like(answer, device="cpu", pin_memory=device.type == "cuda")

    def gathered(layer: int, own: Tensor) -> Tensor:
        return with_cached(pool.keys_values[layer], indices, own)

    masked = network.masked(gathered, mask)

    def attention() -> Tensor:
        y = x
        for layer in range(len(network.layers)):
            y = network.attend(layer, y, masked)
        return y

    def feed_forward() -> Tensor:
        y = x
        for layer in range(len(network.layers)):
            y = network.feed(layer, y)
        return y

    def keep() -> Tensor:
        for ring in pool.keys_values:
            ring.flatten(0, 1).index_copy_(0, kept, own[:, :HOP].flatten(0, 1))
        return kept

    stages: dict[str, Callable[[], Tensor]] = {
        "CNN": lambda: network.features(samples),
        "positions": lambda: network.positioned(near),
        "attention": attention,
        "feed-forward": feed_forward,
        "head": lambda: pack(network.log_probs(x), valid, best=best)[0],
        "keeping": keep,
    }
    found = {
        "planning (host)": float(np.median([timed(plan) for _ in range(repeats + 1)][1:])),
        "copy in": device_time(lambda: on_device.copy_(staged), device, repeats),
    }
    for name, stage in stages.items():
        run: Callable[[], Any] = CudaCapture(device)(stage)[0] if device.type == "cuda" else stage
        found[name] = device_time(run, device, repeats)
    found["copy out"] = device_time(lambda: fetched.copy_(answer, non_blocking=True), device, repeats)
    return found


def timed(run: Callable[[], object]) -> float:
    """Seconds of a call that waits for its result."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def device_time(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median seconds on the device, by CUDA events if possible."""
    if device.type != "cuda":
        return float(np.median([timed(run) for _ in range(repeats + 1)][1:]))
    started, done = (cast(Any, torch.cuda.Event)(enable_timing=True) for _ in range(2))
    taken: list[float] = []
    for _ in range(repeats + 1):
        started.record()
        run()
        done.record()
        done.synchronize()
        taken.append(started.elapsed_time(done) / 1000)
    return float(np.median(taken[1:]))


def relative_error(found: Sequence[Float32], wanted: Sequence[Float32]) -> float:
    """Of all rows together."""
    a, b = np.concatenate(list(found)), np.concatenate(list(wanted))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))
