"""Silero VAD (github.com/snakers4/silero-vad): the network of the `silero-vad` package, run by ONNX Runtime.

This module does not import the package's Python code, which loads torch and sets its threads for the whole process. All
streams share one network; each has 3 KiB of state.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

CHUNK: Final = 512  # samples; Silero takes nothing else at 16 kHz
_OUTPUTS: Final = ["speech_probs", "hn", "cn"]
_SILENCE: Final = 20  # chunks: 0.64 s; with less, words after a short silence at the start of a stream are lost
_CONTEXT: Final = 64  # samples of the previous chunk that each input repeats
QUIET: Final = (
    0.3  # how far a stream begins as if silence came before: more opens on more noise, less misses more onsets
)


@cache
def _network() -> Any:
    """The network for sequences of chunks; it gives the same results as the one for single chunks."""
    onnxruntime: Any = import_module("onnxruntime")  # without types
    spec = find_spec("silero_vad")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'silero_vad'", name="silero_vad")
    options = onnxruntime.SessionOptions()
    # A chunk is too small to divide among threads, and waiting threads would spin.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = Path(spec.origin).with_name("data") / "silero_vad_16k_sequence.onnx"
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@cache
def _after_silence(chunks: int) -> tuple[Float32, Float32]:
    """The network's state after so many chunks of zeros."""
    nothing = np.zeros((1, 1, 128), np.float32)
    feed = {"input": np.zeros((chunks, _CONTEXT + CHUNK), np.float32), "h": nothing, "c": nothing}
    _, hidden, cell = _network().run(_OUTPUTS, feed)
    return hidden, cell


class Silero:
    """The network with one stream's state. The first chunk loads the network: most silent sessions never need it.

    From a state of zeros the network takes many onsets at the first sample for noise. `quiet` is the part of the state
    after silence with which a stream begins.
    """

    def __init__(self, quiet: float = QUIET) -> None:
        self._quiet = quiet
        self.reset()

    def __call__(self, chunks: Float32) -> list[float]:
        """Speech probabilities of the next chunks, shape (n, CHUNK). They do not depend on n."""
        if not len(chunks):
            return []
        if self._state is None:
            hidden, cell = _after_silence(1)
            self._state = hidden * np.float32(self._quiet), cell * np.float32(self._quiet)
        inputs = np.empty((len(chunks), _CONTEXT + CHUNK), np.float32)
        inputs[:, _CONTEXT:] = chunks
        inputs[0, :_CONTEXT], inputs[1:, :_CONTEXT] = self._context, chunks[:-1, -_CONTEXT:]
        feed = {"input": inputs, "h": self._state[0], "c": self._state[1]}
        probabilities, hidden, cell = _network().run(_OUTPUTS, feed)
        self._state = hidden, cell
        self._context = chunks[-1, -_CONTEXT:].copy()
        return probabilities.ravel().tolist()

    def begin_after_silence(self) -> None:
        """The stream has been silent so far: another state than before a first sample that may be speech."""
        self._state = _after_silence(_SILENCE)

    def skip(self) -> None:
        """The next chunk does not follow the last one but belongs to the same stream."""
        self._context = np.zeros(_CONTEXT, np.float32)

    def reset(self) -> None:
        self.skip()
        self._state: tuple[Float32, Float32] | None = None  # of the network; None before the first chunk
