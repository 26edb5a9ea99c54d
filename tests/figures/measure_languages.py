"""Cost of adapters per row: `python -m tests.figures.measure_languages [ROUNDS]` (not part of the test suite; minutes).

CPU time of live steps of XLS-R 300M with random weights, on one thread: without adapters, and with a language for each
row of the batch. Each round measures both, in turns first; the median of the rounds' ratios counts, and its quartiles
tell how much other programs disturb.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from xlsr_live.streaming.ctc.assets import Assets
from xlsr_live.streaming.ctc.vocabulary import Vocabulary
from xlsr_live.streaming.model.adapters import Adapter, AdapterShape
from xlsr_live.streaming.model.cache import CacheManager
from xlsr_live.streaming.model.languages import Languages
from xlsr_live.streaming.model.layers import XlsrLayers
from xlsr_live.streaming.model.runners import EagerRunner
from xlsr_live.streaming.model.step import StepEncoder
from xlsr_live.streaming.requests import CachedStep, CacheHandle, Window

from tests.support.random_xlsr import HOP, LEFT, LOOKAHEAD, SIZES, weights

CPU = torch.device("cpu")
WIDTH = 16  # of the adapters, as in MMS
TOKENS = {f"l{index}": 40 + 10 * index for index in range(8)}


def random_adapter(language: str, shape: AdapterShape) -> Adapter:
    """With the shapes of MMS."""
    made = torch.Generator().manual_seed(TOKENS[language])

    def random(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=made) * 0.02

    layers, hidden, width = shape
    return Adapter(
        (1 + random(layers, hidden), random(layers, hidden)),
        (random(layers, width, hidden), random(layers, width)),
        (random(layers, hidden, width), random(layers, hidden)),
        (random(TOKENS[language], hidden), random(TOKENS[language])),
    )


def make_languages(size: str) -> Languages:
    shape = AdapterShape(SIZES[size]["num_hidden_layers"], SIZES[size]["hidden_size"], WIDTH)
    return Languages(
        "random weights",
        tuple(TOKENS),
        default="l0",
        shape=shape,
        slots=len(TOKENS),
        device=CPU,
        dtype=torch.float32,
        read=lambda language: random_adapter(language, shape),
        vocabulary_of=lambda language, tokens: Vocabulary(("",) * tokens, 0),
        assets_of=lambda language, vocabulary: Assets(),
    )


def step(steps: StepEncoder, languages: list[str]) -> float:
    """CPU seconds of one live step in the middle of utterances in these languages."""
    handles = [CacheHandle(LEFT, LOOKAHEAD, language=language) for language in languages]
    audio = np.random.default_rng(1).standard_normal(HOP * 320 + 80).astype(np.float32)
    taken: list[float] = []
    for k in range(4):  # all but the first cost the same: missing keys are masked
        window = Window(k, 0, max(HOP * (k - 1), 0), HOP * k, HOP * (k + 1), HOP * k)
        begun = time.thread_time()
        steps.encode_steps([(audio, CachedStep(handle, window)) for handle in handles])
        taken.append(time.thread_time() - begun)
    for handle in handles:
        steps.release(handle.number)
    return min(taken[1:])


def main(rounds: int, size: str = "300m") -> None:
    torch.set_num_threads(1)
    model, languages = weights(size, CPU), make_languages(size)
    for language in TOKENS:
        languages.ensure(language)
    encoders: dict[str, StepEncoder] = {}
    for name, own in (("without", None), ("with", languages)):
        network = XlsrLayers(model, own)
        encoders[name] = StepEncoder(network, CacheManager(network.pool, most_bytes=1 << 31), EagerRunner(CPU))
    works = {
        "1 utterance": {"without": ["l0"], "with": ["l1"]},
        "4 utterances": {"without": ["l0"] * 4, "with": ["l1", "l2", "l3", "l4"]},
    }
    print(f"adapters and head of a language: {languages.adapters.slot_bytes / 1e6:.1f} MB in float32")
    for name, kinds in works.items():
        found = list[dict[str, float]]()
        for number in range(rounds):
            order = list(kinds.items())[:: 1 if number % 2 else -1]
            found.append({kind: step(encoders[kind], spoken) * 1e3 for kind, spoken in order})
        low, middle, high = np.percentile([each["with"] / each["without"] - 1 for each in found], (25, 50, 75))
        plain, adapted = (min(each[kind] for each in found) for kind in ("without", "with"))
        print(f"{name}: {plain:.1f} ms without adapters, {adapted:.1f} ms with (least of {rounds} rounds); ratio "
              f"{middle:+.1%}, quartiles {low:+.1%} and {high:+.1%}")  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
