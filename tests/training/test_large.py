"""XLS-R 300M with random weights in the layout of the pre-trained checkpoint, on a CPU: four of its layers, and all."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining
from xlsr_live.client.bench.corpus import read_corpus
from xlsr_live.training import memory
from xlsr_live.training.recordings import Listed
from xlsr_live.training.run import FineTuneRequest, FineTuneRun

from tests.support.checkpoints import XLSR_300M
from tests.support.spoken_tables import write_table


@pytest.fixture(scope="module")
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("xls-r-300m")
    size = XLSR_300M | {"num_hidden_layers": request.param}  # with 24 it is the whole network
    config = Wav2Vec2Config(**size, vocab_size=32, proj_codevector_dim=768, codevector_dim=768)
    config.architectures = ["Wav2Vec2ForPreTraining"]
    config.save_pretrained(folder)
    torch.manual_seed(0)
    torch.save(Wav2Vec2ForPreTraining(config).state_dict(), folder / "pytorch_model.bin")
    gc.collect()
    yield folder
    (folder / "pytorch_model.bin").unlink()  # 1.3 GB


@pytest.mark.timeout(3_600)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "method", "gigabytes"),
    [
        (4, "lora", 3),
        (4, "full", 5),
        pytest.param(24, "lora", 6, marks=pytest.mark.full_size),
        pytest.param(24, "full", 14, marks=pytest.mark.full_size),
    ],
    indirect=["base"],
)
def test_it_starts_saves_and_continues_within_the_memory_that_was_estimated(
    base: Path, method: str, gigabytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if psutil.virtual_memory().available < gigabytes * 1e9:
        pytest.skip(f"less than {gigabytes} GB of memory are free")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("xlsr_live.training.finetune.BLANK_UNTIL", 2.0)  # after two steps a network may write nothing
    table = [Listed(each.path, each.text, each.speaker) for each in read_corpus(write_table(tmp_path / "speech", 8))]
    threads, used = torch.get_num_threads(), psutil.Process().memory_info().rss

    def start() -> FineTuneRun:
        request = FineTuneRequest(str(base), tmp_path / "out", method=method, steps=2, batch_seconds=4, device="cpu")
        run = FineTuneRun(request, lambda sentence: None)
        run.look(table, None)
        run.load()
        return run

    try:
        run = start()
        assert run.fit.threads == 1  # which shares all cores
        most = []

        def watch(position: object, done: float) -> None:
            most.append(psutil.Process().memory_info().rss - used)

        assert not run.train(watch, lambda found: None, lambda: True)
        assert max(most) < run.fit.bytes / memory.USABLE
        del run
        gc.collect()
        run = start()
        assert run.train(watch, lambda found: None, lambda: False)
        assert run.tuner.position.step == 2
    finally:
        torch.set_num_threads(threads)
