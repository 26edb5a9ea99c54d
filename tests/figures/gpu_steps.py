"""The steps of `measure_gpu`: each yields its figures as it finds them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
import transformers
from torch import Tensor
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.errors import EngineError
from xlsr_live.streaming.model import varlen
from xlsr_live.streaming.model.cache import SlotShape
from xlsr_live.streaming.model.device import set_up, used_memory
from xlsr_live.streaming.model.encoder import XlsrEncoder
from xlsr_live.streaming.model.layers import XlsrLayers
from xlsr_live.streaming.model.preparing import MOST_GRAPHS, Limits
from xlsr_live.streaming.model.runners import CudaCapture, EagerRunner, GraphRunner
from xlsr_live.streaming.requests import CacheHandle

from tests.figures import gpu_kernels
from tests.figures.gpu_streams import most_streams, paced, simulated
from tests.figures.gpu_times import (
    PassTime,
    StepTime,
    pass_times,
    relative_error,
    stage_times,
    step_time,
    timed,
)
from tests.support import random_xlsr
from tests.support.graphs import again
from tests.support.random_xlsr import HOP, LEFT, LOOKAHEAD, noise, stepped

Figure = dict[str, Any]

BOUND: Final = 0.5  # seconds: p95 of a step's latency


class Captures:
    """Captures, with the time and the device's memory after each."""

    def __init__(self, device: torch.device) -> None:
        self._capture = CudaCapture(device) if device.type == "cuda" else again
        self._memory = memory_of(device)
        self._began = time.monotonic()
        self.found: list[tuple[float, int]] = []

    def __call__(self, program: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        answer = self._capture(program)
        self.found.append((time.monotonic() - self._began, self._memory()))
        return answer


@dataclass
class Bench:
    """One size on one device. It makes what steps share when the first of them needs it."""

    size: str
    device: torch.device
    dtype: torch.dtype
    max_batch: int
    peak: float | None = None  # of the device, operations a second
    seconds: float = 20.0  # of paced streams
    repeats: int = 30
    streams: tuple[int, ...] = (300, 1_000)
    graphs: int = MOST_GRAPHS

    def __post_init__(self) -> None:
        set_up(self.device)
        self.step_times: list[StepTime] = []
        self.pass_times: list[PassTime] = []

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @cached_property
    def model(self) -> Any:
        return random_xlsr.weights(self.size, self.device).to(self.dtype)

    @cached_property
    def captures(self) -> Captures:
        return Captures(self.device)

    @cached_property
    def encoder(self) -> XlsrEncoder:
        """Prepared as at load, with recalled features."""
        runner = GraphRunner(self.device, capture=self.captures)
        encoder = random_xlsr.encoder(self.size, self.device, self.dtype, max_batch=self.max_batch, runner=runner)
        room = encoder.room(SessionConfig()) or 0
        self.base = memory_of(self.device)()
        limits = Limits(memory_of(self.device), most_bytes=1 << 40, most_s=120.0, most_graphs=self.graphs)
        encoder.prepare(SessionConfig(), runner, utterances=min(room, 2 * max(self.streams)), limits=limits)
        return encoder


def memory_of(device: torch.device) -> Callable[[], int]:
    return (lambda: used_memory(device)) if device.type == "cuda" else (lambda: 0)


def versions(bench: Bench) -> Iterator[Figure]:
    found: Figure = {
        "python_torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
    }
    if bench.on_gpu:
        properties = torch.cuda.get_device_properties(bench.device)
        found |= {
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "memory": properties.total_memory,
            "processors": properties.multi_processor_count,
        }
    yield found | {"peak_flop_s": bench.peak}


def checks(bench: Bench) -> Iterator[Figure]:
    """Errors of float32 with and without TF32, and of half precision, against a CPU in float32."""
    audio = [noise(2, seed) for seed in range(2)]
    cpu = torch.device("cpu")
    wanted = stepped(random_xlsr.encoder(bench.size, cpu, torch.float32, max_batch=2, runner=EagerRunner(cpu)), audio)[
        0
    ]
    state = random_xlsr.weights(bench.size, cpu).state_dict()  # a GPU draws other random numbers
    for dtype, tf32 in ((torch.float32, False), (torch.float32, True), (bench.dtype, False)):
        torch.backends.cudnn.allow_tf32 = tf32
        try:
            runner = EagerRunner(bench.device)
            encoder = random_xlsr.encoder(bench.size, bench.device, dtype, max_batch=2, runner=runner, state=state)
            rows = stepped(encoder, audio)[0]
            alone = [stepped(encoder, [samples])[0][0] for samples in audio]
        finally:
            torch.backends.cudnn.allow_tf32 = False
        same = np.concatenate([a.argmax(1) == b.argmax(1) for a, b in zip(rows, wanted, strict=True)]).mean()
        yield {
            "dtype": str(dtype),
            "tf32": tf32,
            "error": relative_error(rows, wanted),
            "same_tokens": float(same),
            "batched_against_alone": relative_error(rows, alone),
        }


def attention(bench: Bench) -> Iterator[Figure]:
    yield from gpu_kernels.first_calls(bench.model.config, bench.device, bench.dtype, 10)


def gathers(bench: Bench) -> Iterator[Figure]:
    hidden = bench.model.config.hidden_size
    yield from gpu_kernels.gathers(hidden, bench.device, bench.dtype, bench.max_batch, LEFT, bench.repeats)


def positions(bench: Bench) -> Iterator[Figure]:
    yield from gpu_kernels.convolutions(bench.model, min(128, bench.max_batch), HOP + LOOKAHEAD, bench.repeats)


def capture(bench: Bench) -> Iterator[Figure]:
    """Seconds and memory of graphs, and of the pool before them."""
    encoder, found = bench.encoder, bench.captures.found
    assert encoder.cached
    yield {"pool_bytes": encoder.cached.caches.bytes, "room": encoder.room(SessionConfig())}
    for graphs in sorted({30, MOST_GRAPHS, len(found)}):
        if graphs <= len(found):
            seconds, memory = found[graphs - 1]
            yield {"graphs": graphs, "s": seconds, "bytes": memory - bench.base}


def steps(bench: Bench) -> Iterator[Figure]:
    for batch in [size for size in (1, 32, 64, 128, 256) if size <= bench.max_batch]:
        found, profile = step_time(bench.encoder, bench.model.config, bench.peak, batch, bench.repeats)
        bench.step_times.append(found)
        yield found._asdict() | profile


def packed(bench: Bench) -> Iterator[Figure]:
    """Steps and finals with packed attention, beside those with masks."""
    if bench.on_gpu and not varlen.supported(bench.device, bench.dtype):
        yield {"supported": False}
        return
    runner = GraphRunner(bench.device, capture=Captures(bench.device))
    encoder = random_xlsr.encoder(
        bench.size, bench.device, bench.dtype, max_batch=bench.max_batch, runner=runner, packed=True
    )
    limits = Limits(memory_of(bench.device), most_bytes=1 << 40, most_graphs=min(30, bench.graphs))
    encoder.prepare(SessionConfig(), runner, utterances=2 * bench.max_batch, limits=limits)
    audio = [noise(2, seed) for seed in range(min(8, bench.max_batch))]
    error = relative_error(stepped(encoder, audio)[0], stepped(bench.encoder, audio)[0])
    yield {"supported": True, "error_of_steps": error}
    for batch in [size for size in (1, 32, 64, 128, 256) if size <= bench.max_batch]:
        found, profile = step_time(encoder, bench.model.config, bench.peak, batch, bench.repeats)
        yield found._asdict() | profile
    finals = [noise(seconds, seconds) for seconds in (1, 1, 2, 2, 3, 4, 6, 8)]
    for name, each in {"packed": encoder, "masked": bench.encoder}.items():
        taken = [timed(lambda each=each: each.encode(finals)) for _ in range(3 + bench.repeats)][3:]
        yield {"finals": name, "s": float(np.median(taken))}
    error = relative_error(encoder.encode(finals), bench.encoder.encode(finals))
    yield {"error_of_finals": error}


def stages(bench: Bench) -> Iterator[Figure]:
    batch = min(128, bench.max_batch)
    yield {"batch": batch} | stage_times(bench.model, batch, repeats=bench.repeats)


def passes(bench: Bench) -> Iterator[Figure]:
    for found in pass_times(bench.encoder, bench.model.config, bench.peak, repeats=max(1, bench.repeats // 10)):
        bench.pass_times.append(found)
        yield found._asdict()


def pool(bench: Bench) -> Iterator[Figure]:
    """Seconds to reserve a pool, and to let one grow to the same size."""
    network = XlsrLayers(bench.model)
    shape = SlotShape.of(CacheHandle(LEFT, LOOKAHEAD))
    slots = 4 * bench.max_batch

    def wait() -> None:
        if bench.on_gpu:
            torch.cuda.synchronize(bench.device)

    for name, sizes in {"reserved": [slots], "grown": [slots // 4, slots // 2, slots]}.items():
        made = network.pool(shape)
        yield {
            "how": name,
            "slots": slots,
            "s": timed(lambda made=made, sizes=sizes: ([*map(made.grow, sizes)], wait())),
        }


def simulation(bench: Bench) -> Iterator[Figure]:
    """Streams at the bound, from times that this process measured."""
    if not bench.step_times:
        [*steps(bench)]
    if not bench.pass_times:
        [*passes(bench)]
    carried = most_streams(lambda streams: simulated(streams, 30, bench.step_times, bench.pass_times).p95 < BOUND)
    yield simulated(max(1, carried), 30, bench.step_times, bench.pass_times)._asdict()


def streams(bench: Bench) -> Iterator[Figure]:
    """Real streams through the engine, with finals that reuse features and with finals that do not, as of XLS-R."""
    for recall, count in [(True, bench.streams[0]), *((False, count) for count in bench.streams)]:
        engine = Engine(bench.encoder)
        try:
            load = paced(engine, count, bench.seconds, recall=recall)
            yield {"recall": recall, "level": int(engine.level), "late": engine.counters.late} | load._asdict()
        finally:
            engine.close()
        if load.failed == load.answers:
            raise EngineError("no stream got an answer")


STEPS: Final[dict[str, Callable[[Bench], Iterator[Figure]]]] = {
    step.__name__: step
    for step in (
        versions,
        checks,
        attention,
        gathers,
        positions,
        capture,
        steps,
        packed,
        streams,
        stages,
        passes,
        simulation,
        pool,
    )
}
