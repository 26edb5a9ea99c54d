"""Products in 8-bit integers: exact for small whole numbers, close for others, and the same words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from xlsr_live.streaming import ModelError, Recognizer
from xlsr_live.streaming.config import ModelOptions
from xlsr_live.streaming.model import int8 as quantized
from xlsr_live.streaming.model.int8 import Int8Linear
from xlsr_live.streaming.model.load import load

from tests.support.checkpoints import publish
from tests.support.paths import DIGITS

needs_int8 = pytest.mark.skipif(not quantized.supported(), reason="this processor has no sums of 8-bit products")


def whole_numbers(*shape: int) -> torch.Tensor:
    """Whole numbers up to 127, with 127 in each row: quantization is exact for these."""
    numbers = torch.randint(-127, 128, shape).float()
    numbers[..., 3] = 127
    return numbers


@needs_int8
@pytest.mark.parametrize("shape", [(1, 64), (5, 64), (2, 48, 64), (3, 1, 7, 64)])
def test_products_of_small_whole_numbers_are_exact(shape: tuple[int, ...]):
    torch.manual_seed(1)
    x, weight, bias = whole_numbers(*shape), whole_numbers(32, 64), torch.randint(-9, 9, (32,)).float()
    for factor, plus in ((1.0, bias), (0.25, bias), (1.0, None)):  # each row has its own scale
        exact = torch.nn.functional.linear(x * factor, weight, plus)
        assert torch.equal(Int8Linear(weight, plus)(x * factor), exact)


@needs_int8
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_products_are_close(dtype: torch.dtype):
    torch.manual_seed(2)
    linear, x = torch.nn.Linear(256, 100), torch.randn(2, 30, 256)
    x[0, 4] = 0  # a row of zeros
    x[1, 5, 7] = 1_000  # and one with an outlier, which does not affect the other rows
    with torch.inference_mode():
        want, got = linear(x), Int8Linear(linear.weight, linear.bias)(x.to(dtype))
    assert got.dtype == dtype
    error = (got - want).norm(dim=2) / want.norm(dim=2)
    assert error.flatten().sort().values[:-1].max() < 0.02


@needs_int8
def test_a_row_does_not_depend_on_its_batch():
    torch.manual_seed(3)
    linear, x = Int8Linear(torch.randn(96, 160), torch.randn(96)), torch.randn(200, 160)
    together = linear(x)
    for rows in (slice(0, 1), slice(7, 31), slice(50, 200)):
        assert torch.equal(linear(x[rows]), together[rows])


@needs_int8
def test_a_model_gives_the_same_words_in_8_bits(
    recognizer: Recognizer, clip: Callable[[str], np.ndarray], monkeypatch: pytest.MonkeyPatch
):
    calls: list[int] = []
    forward = Int8Linear.forward
    monkeypatch.setattr(Int8Linear, "forward", lambda self, x: (calls.append(1), forward(self, x))[1])
    with Recognizer.load(str(DIGITS), device="cpu", dtype="int8") as small:
        assert small.info.dtype == "int8"
        assert small.info.parameters == recognizer.info.parameters
        assert small.info.modes == recognizer.info.modes
        for name in ("george", "jackson"):
            samples = clip(name) / np.float32(32_768)
            want = [final.text for final in recognizer.transcribe(samples)]
            calls.clear()
            assert [final.text for final in small.transcribe(samples)] == want
            passes, rest = divmod(len(calls), 4 * 4)  # layers, and products in each
            assert passes > 1
            assert rest == 0


def test_unsupported_processors_get_the_alternatives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("xlsr_live.streaming.model.load.supported", lambda: False)
    with pytest.raises(ModelError, match="bfloat16 or float32"):
        load(ModelOptions(str(publish(tmp_path)), device="cpu", dtype="int8"))


@needs_int8
def test_without_16_bit_products_the_rest_is_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    samples = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    directory = str(publish(tmp_path))
    want = load(ModelOptions(directory, device="cpu")).encode([samples])[0]
    for has in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has)
        rows = load(ModelOptions(directory, device="cpu", dtype="int8")).encode([samples])[0]
        assert rows.dtype == np.float32
        assert np.abs(rows - want).max() < 0.5
