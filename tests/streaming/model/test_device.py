"""The device of a model: its name, its settings, and its memory."""

from __future__ import annotations

import pytest
import torch
from xlsr_live.streaming.errors import ModelError
from xlsr_live.streaming.model import device as devices
from xlsr_live.streaming.model.device import budget, find_device, set_up

GIB = 1 << 30


def test_a_second_model_gets_as_much_memory_as_the_first():
    first = budget(135 * GIB, 140 * GIB)
    assert first == 56 * GIB
    beside = 135 * GIB - first - 6 * GIB  # beside the caches of the first model, its weights and its graphs
    assert budget(beside, 140 * GIB) == first


def test_a_full_device_leaves_nothing_for_caches():
    assert budget(2 * GIB, 24 * GIB) == 0
    assert budget(5 * GIB, 24 * GIB) == 5 * GIB - int(2.4 * GIB)


def test_memory_that_torch_holds_for_later_counts_as_free(monkeypatch: pytest.MonkeyPatch):
    """Of a closed model, for example; but not the memory of graphs."""

    def segment(device: int, pool: tuple[int, int], size: int, allocated: int) -> dict[str, object]:
        return {"device": device, "segment_pool_id": pool, "total_size": size, "allocated_size": allocated}

    segments = [segment(0, (0, 0), 60, 25), segment(0, (0, 1), 7, 0), segment(1, (0, 0), 9, 0)]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (30, 100))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: segments)
    assert devices.used_memory(torch.device("cuda")) == 35
    assert devices.cache_budget(torch.device("cuda")) == 40


def test_attention_and_convolutions_of_a_gpu(monkeypatch: pytest.MonkeyPatch):
    set_up(torch.device("cpu"))
    before = torch.backends.cuda.cudnn_sdp_enabled(), torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cuda.enable_cudnn_sdp(True)
        torch.backends.cudnn.allow_tf32 = True
        set_up(torch.device("cuda"))
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert not torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def test_other_gpus_have_numbers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert str(find_device("cuda:1")) == "cuda:1"
    assert find_device("auto").type == "cuda"
    with pytest.raises(ModelError, match="no cuda:2 here, only 2"):
        find_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto").type == "cpu"
    with pytest.raises(ModelError, match="no CUDA device"):
        find_device("cuda:1")
