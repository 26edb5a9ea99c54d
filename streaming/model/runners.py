"""Runners of tensor programs: eager, or as CUDA graphs that are captured at load and replayed.

A program is a function from words on the device to words on the device. Its shapes and side effects depend only on its
key: a family, such as the steps of one pool, and a shape. All-zero input must have no visible effect:
capture runs the program on zeros. On a CPU the runner calls programs with exact shapes. On a GPU their many small
kernels would take longer to launch than to run, so the graph runner captures a closed set of shapes, each with its own
buffers, before the first request; a batch runs in the cheapest that covers it. A run is then one copy in, one replay
and one copy out. A batch that no graph covers runs kernel by kernel: nothing is captured while sessions are open.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import EngineError, first_line
from .shapes import Shape

Int32 = NDArray[np.int32]
Program = Callable[[Tensor], Tensor]  # words on the device to words on the device
Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]  # to a replay and its output
Fetch = Callable[[], Int32]  # waits for the output of a run

_BATCHES = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256)  # powers of two alone would pad up to twice
_MULTIPLE = 8  # of frames: attention copies masks of other widths

log = logging.getLogger("xlsr_live.model")


class Key(NamedTuple):
    """Equal keys mean equal programs."""

    family: Hashable
    shape: Shape


class Runner(Protocol):
    """Runs programs on a device and chooses their shapes."""

    @property
    def overlaps(self) -> bool:
        """Whether the device works between `start` and the call of its result."""
        ...

    def fit(self, family: Hashable, least: Shape) -> Shape:
        """The shape with which a program of this family should run; it covers `least`."""
        ...

    def start(self, key: Key, program: Program, words: Sequence[Int32]) -> Fetch:
        """Run a program on the concatenated words. Runs take effect in the order of `start`; call each result once."""
        ...


class EagerRunner:
    """Calls programs when their result is wanted, with exact shapes."""

    overlaps = False

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def fit(self, family: Hashable, least: Shape) -> Shape:
        return least

    def start(self, key: Key, program: Program, words: Sequence[Int32]) -> Fetch:
        @torch.inference_mode()
        def run() -> Int32:
            return cast(Int32, program(torch.from_numpy(np.concatenate(words)).to(self._device)).cpu().numpy())

        return run


class _Lane:
    """Buffers on the host for one run of a graph."""

    def __init__(self, words: Tensor, output: Tensor) -> None:
        pinned = words.device.type == "cuda"
        self.staged = torch.empty(words.shape, dtype=torch.int32, pin_memory=pinned)
        self.fetched = torch.empty(output.shape, dtype=output.dtype, pin_memory=pinned)
        self._done = torch.cuda.Event(blocking=True) if pinned else None

    def record(self, device: torch.device) -> None:
        if self._done is not None:
            self._done.record(torch.cuda.current_stream(device))

    def wait(self) -> None:
        if self._done is not None:
            self._done.synchronize()


@dataclass(slots=True)
class _Graph:
    words: Tensor  # on the device, where the graph reads them
    replay: Callable[[], None]
    output: Tensor  # on the device, where the graph writes it
    lanes: cycle[_Lane] = field(init=False)  # two: the host fills one while the device uses the other

    def __post_init__(self) -> None:
        self.lanes = cycle([_Lane(self.words, self.output) for _ in range(2)])


class GraphRunner:
    """Replays prepared programs as graphs; the caller collects the result of a run before it starts the second next."""

    overlaps = True

    def __init__(self, device: torch.device, *, capture: Capture | None = None) -> None:
        self._device = device
        self._capture = capture or CudaCapture(device)
        self._graphs: dict[Key, _Graph] = {}
        self._prepared: dict[Hashable, list[Shape]] = {}  # of each family, the cheapest first
        self.replays = 0
        self.misses = 0  # runs without a graph

    @property
    def graphs(self) -> int:
        return len(self._graphs)

    @staticmethod
    def batches(most: int) -> list[int]:
        """Sizes of batches to prepare, for up to `most` utterances."""
        return [size for size in _BATCHES if size < most] + [most]

    def fit(self, family: Hashable, least: Shape) -> Shape:
        for shape in self._prepared.get(family, ()):
            if shape.covers(least):
                return shape
        return Shape(least.batch, *(-(-count // _MULTIPLE) * _MULTIPLE for count in least[1:]))

    def start(self, key: Key, program: Program, words: Sequence[Int32]) -> Fetch:
        graph = self._graphs.get(key)
        if graph is None:
            self.misses += 1
            output = program(torch.from_numpy(np.concatenate(words)).to(self._device))
            return lambda: cast(Int32, output.cpu().numpy())
        lane = next(graph.lanes)
        lane.wait()  # a result that nobody collected
        np.concatenate(words, out=lane.staged.numpy())
        graph.words.copy_(lane.staged, non_blocking=True)
        graph.replay()
        lane.fetched.copy_(graph.output, non_blocking=True)
        lane.record(self._device)
        self.replays += 1

        def fetch() -> Int32:
            lane.wait()
            return cast(Int32, lane.fetched.numpy().copy())  # a later run writes there

        return fetch

    @torch.inference_mode()
    def prepare(self, key: Key, program: Program, words: int) -> bool:
        """Capture a program that reads that many words. False if memory is short: all graphs are then dropped, and
        everything runs kernel by kernel. Raises `EngineError` if the capture fails otherwise."""
        if key in self._graphs:
            return True
        try:
            # Zeros stand for silence of no utterance.
            words_in = torch.zeros(words, dtype=torch.int32, device=self._device)
            self._graphs[key] = _Graph(words_in, *self._capture(lambda: program(words_in)))
        except torch.OutOfMemoryError:
            self._graphs.clear()
            self._prepared.clear()
            log.exception("no memory for CUDA graphs: the model runs slower, kernel by kernel")
            return False
        except RuntimeError as error:
            raise EngineError(
                f"capturing a CUDA graph failed ({type(error).__name__}: {first_line(error)}); this process "
                "cannot use the device any more: start it again"
            ) from error
        shapes = self._prepared.setdefault(key.family, [])
        shapes.append(key.shape)
        shapes.sort(key=lambda shape: shape.cost)
        return True


class CudaCapture:
    """Captures into one memory pool: graphs never run at the same time, and only their output outlives a run."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)

    def __call__(self, program: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        current = torch.cuda.current_stream(self._device)
        # `torch.cuda.graph` leaves the thread on its stream if the capture fails; the outer context restores it.
        with torch.cuda.device(self._device), torch.cuda.stream(current):
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                program()  # libraries must set up their state for this stream before the capture
            current.wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the device meanwhile; the capture ignores their work.
            with torch.cuda.graph(graph, pool=self._memory, stream=self._stream, capture_error_mode="thread_local"):
                output = program()
        return graph.replay, output


def split_words(words: Tensor, batch: int, samples: int, columns: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """The words of a plan as audio, (batch, samples) float32, and one index tensor, (batch * columns,), per column."""
    audio, rest = words[: batch * samples], words[batch * samples :]
    indices = cast("tuple[Tensor, ...]", rest.long().split([batch * count for count in columns]))
    return audio.view(torch.float32).view(batch, samples), list(indices)
