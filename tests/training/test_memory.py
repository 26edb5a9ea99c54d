"""How steps of fine-tuning fit into memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC
from xlsr_live.training.base import find_base, load_base
from xlsr_live.training.errors import TrainingError
from xlsr_live.training.memory import PROGRAM, USABLE, fit, kept_per_second
from xlsr_live.training.methods import merge, prepare
from xlsr_live.training.network import Network, StepLengths

from tests.support.checkpoints import XLSR_300M
from tests.support.fine_tuning import TINY


@pytest.mark.parametrize("bfloat16", [True, False])
def test_the_estimate_of_memory_is_near_what_autograd_keeps(bfloat16: bool):
    size = XLSR_300M | {"num_hidden_layers": 2, "hidden_size": 256, "intermediate_size": 1024}
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**size, vocab_size=32)).train()
    model.wav2vec2.feature_extractor.requires_grad_(False)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def kept(seconds: int) -> float:
        seen: dict[int, int] = {}
        alive: list[torch.Tensor] = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                seen[storage.data_ptr()] = storage.nbytes()
                alive.append(tensor)
            return tensor

        with (
            torch.autocast("cpu", torch.bfloat16, enabled=bfloat16, cache_enabled=False),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        ):
            Network(model)(torch.randn(1, 16_000 * seconds), torch.tensor([16_000 * seconds]), StepLengths(24, 24, 200))
        return float(sum(seen.values()))

    measured = (kept(4) - kept(2)) / 2
    assert 0.5 < kept_per_second(model.config, recompute=False, bfloat16=bfloat16) / measured < 2


def test_steps_are_cut_to_fit_the_memory_and_too_little_is_an_error():
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**TINY, vocab_size=32))
    ample = fit(model, bfloat16=True, free=64e9, longest=10.0, batch_seconds=32.0, threads=2)
    assert (ample.part_seconds, ample.threads, ample.recompute) == (16.0, 2, False)
    enough = PROGRAM + 0.7 * (ample.bytes - PROGRAM)
    tight = fit(model, bfloat16=True, free=enough / USABLE, longest=10.0, batch_seconds=32.0, threads=2)
    assert tight.bytes < ample.bytes
    assert tight.part_seconds >= 10.0
    # The longest recording must fit, however small the steps and the parts are.
    small = fit(model, bfloat16=True, free=64e9, longest=20.0, batch_seconds=2.0, threads=2)
    assert small.part_seconds == 1.0
    least = small.bytes / USABLE
    assert (
        fit(model, bfloat16=True, free=least * 1.001, longest=20.0, batch_seconds=2.0, threads=2).bytes == small.bytes
    )
    less = fit(model, bfloat16=True, free=least * 0.999, longest=20.0, batch_seconds=2.0, threads=2)
    assert less.recompute
    assert less.bytes < small.bytes
    many = fit(model, bfloat16=True, free=64e9, longest=20.0, batch_seconds=32.0, threads=8)
    assert (many.part_seconds, many.threads) == (4.0, 8)  # a long recording leaves the other threads their parts
    with pytest.raises(TrainingError, match=r"needs \d+\.\d GB of free memory"):
        fit(model, bfloat16=True, free=2e6, longest=10.0, batch_seconds=32.0, threads=2)


def test_lora_trains_little_and_merges_into_plain_weights(base: Path):
    model = load_base(find_base(str(base)), None)
    names = set(model.state_dict())
    model = prepare(model, "lora", seed=1)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert all("lora" in name or "lm_head" in name for name in trained)
    assert set(merge(model, "lora").state_dict()) == names
