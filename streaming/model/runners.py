"""Runners of tensor programs: eager, or as CUDA graphs that are captured once and replayed.

A program is a function from words on the device to words on the device. Its shapes and side effects depend only on its
key. All-zero input must have no visible effect: capture runs the program on zeros. On a CPU the runner calls it with
exact shapes. On a GPU its many small kernels would take longer to launch than to run, so the graph runner rounds shapes
up to a few and captures each as a graph with its own buffers. A run is then one copy in, one replay and one copy out,
without a wait in between.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Int32 = NDArray[np.int32]
Program = Callable[[Tensor], Tensor]  # words on the device to words on the device
Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]  # to a replay and its output

_LADDER = (8, 16, 24, 32, 40, 48, 56, 64, 80, 104, 128, 152, 200, 256, 304, 400, 504, 600, 800, 1_000)  # frames
_BEYOND = 200  # frames between longer steps of the ladder
_MOST_GRAPHS = 128
_CALLS_BEFORE = 2  # of a shape, before it gets a graph

log = logging.getLogger("xlsr_live.model")


class Runner(Protocol):
    """Runs programs on a device and chooses their shapes."""

    def another(self) -> Runner:
        """One for other programs with the same keys."""
        ...

    def batch(self, utterances: int) -> int: ...

    def frames(self, count: int) -> int: ...

    def run(self, key: Hashable, program: Program, words: Sequence[Int32]) -> Int32:
        """The program's output for the concatenated words. Equal keys mean equal programs and equal sizes."""
        ...

    def prepare(self, key: Hashable, program: Program, words: Sequence[Int32]) -> None:
        """Do the extra work of the first runs now."""
        ...


class EagerRunner:
    """Calls programs, with exact shapes."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def another(self) -> EagerRunner:
        return self

    def batch(self, utterances: int) -> int:
        return utterances

    def frames(self, count: int) -> int:
        return count

    def run(self, key: Hashable, program: Program, words: Sequence[Int32]) -> Int32:
        return cast(Int32, program(torch.from_numpy(np.concatenate(words)).to(self._device)).cpu().numpy())

    def prepare(self, key: Hashable, program: Program, words: Sequence[Int32]) -> None:
        self.run(key, program, words)


@dataclass(slots=True)
class _Graph:
    staged: Tensor  # words on the host
    words: Tensor  # on the device, where the graph reads them
    replay: Callable[[], None]
    output: Tensor  # on the device, where the graph writes it
    fetched: Tensor  # on the host


class GraphRunner:
    """Replays programs as graphs. A shape runs eagerly a few times before its capture, which also warms it up."""

    def __init__(self, device: torch.device, *, capture: Capture | None = None) -> None:
        self._eager = EagerRunner(device)
        self._device = device
        self._pinned = device.type == "cuda"
        self._capture = capture or CudaCapture(device)
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()  # the least recently used first
        self._calls: dict[Hashable, int] = {}
        self._done = torch.cuda.Event(blocking=True) if self._pinned else None
        self._broken = False
        self.replays = 0

    def another(self) -> GraphRunner:
        return GraphRunner(self._device, capture=self._capture)

    def batch(self, utterances: int) -> int:
        return 1 << (utterances - 1).bit_length()

    def frames(self, count: int) -> int:
        if count <= _LADDER[-1]:
            return _LADDER[bisect_left(_LADDER, count)] if count else 0
        return -(-count // _BEYOND) * _BEYOND

    def run(self, key: Hashable, program: Program, words: Sequence[Int32]) -> Int32:
        graph = self._graphs.get(key)
        if graph is None:
            self._calls[key] = self._calls.get(key, 0) + 1
            if self._broken or self._calls[key] <= _CALLS_BEFORE:
                return self._eager.run(key, program, words)
            graph = self._new_graph(key, program, words)
            if graph is None:
                return self._eager.run(key, program, words)
        self._graphs.move_to_end(key)
        np.concatenate(words, out=graph.staged.numpy())
        graph.words.copy_(graph.staged, non_blocking=True)
        graph.replay()
        graph.fetched.copy_(graph.output, non_blocking=True)
        if self._done is not None:
            self._done.record(torch.cuda.current_stream(self._device))
            self._done.synchronize()
        self.replays += 1
        return cast(Int32, graph.fetched.numpy().copy())  # the next run writes there

    def prepare(self, key: Hashable, program: Program, words: Sequence[Int32]) -> None:
        while key not in self._graphs and not self._broken:
            self.run(key, program, words)

    def _new_graph(self, key: Hashable, program: Program, words: Sequence[Int32]) -> _Graph | None:
        size = sum(part.size for part in words)
        staged = torch.empty(size, dtype=torch.int32, pin_memory=self._pinned)
        # Capture runs the program, and a real step must not run twice; zeros stand for silence of no utterance.
        words_in = torch.zeros(size, dtype=torch.int32, device=self._device)
        try:
            replay, output = self._capture(lambda: program(words_in))
        except RuntimeError:
            self._broken = True
            log.exception("this device captures no graphs; it runs slower, kernel by kernel")
            return None
        fetched = torch.empty(output.shape, dtype=output.dtype, pin_memory=self._pinned)
        while len(self._graphs) >= _MOST_GRAPHS:
            self._calls.pop(self._graphs.popitem(last=False)[0], None)
        graph = self._graphs[key] = _Graph(staged, words_in, replay, output, fetched)
        return graph


class CudaCapture:
    """Captures into one memory pool: graphs never run at the same time, and only their output outlives a run."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)

    def __call__(self, program: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                program()  # libraries must set up their state for this stream before the capture
            torch.cuda.current_stream().wait_stream(self._stream)
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
