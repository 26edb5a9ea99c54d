"""Muon without bfloat16 takes the steps of torch's."""

from __future__ import annotations

import pytest
import torch
from xlsr_live.training.muon import Float32Muon, muon


@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (16, 16)])
@pytest.mark.parametrize("nesterov", [True, False])
def test_its_steps_and_state_are_those_of_torch_but_for_rounding(shape: tuple[int, int], nesterov: bool):
    torch.manual_seed(0)
    ours, theirs = torch.randn(shape), torch.randn(shape)
    theirs.copy_(ours)
    options = {"lr": 0.1, "weight_decay": 0.1, "nesterov": nesterov, "adjust_lr_fn": "match_rms_adamw"}
    first, second = Float32Muon([ours], **options), torch.optim.Muon([theirs], **options)
    for _ in range(3):
        before = ours.clone()
        ours.grad = theirs.grad = torch.randn(shape)
        first.step()
        second.step()
        assert (ours - theirs).norm() < 0.05 * (ours - before).norm()
        theirs.copy_(ours)
    (mine,), (other,) = first.state.values(), second.state.values()
    assert torch.allclose(mine["momentum_buffer"], other["momentum_buffer"])
    assert mine.keys() == other.keys()


@pytest.mark.parametrize("native", [True, False])
def test_the_processor_decides(monkeypatch: pytest.MonkeyPatch, native: bool):
    monkeypatch.setattr("xlsr_live.training.muon.has_bfloat16", lambda device: native)
    made = muon([torch.zeros(2, 2)], rate=0.1, weight_decay=0.0)
    assert isinstance(made, Float32Muon) != native
