"""One thread, a small table of recordings, and a small base."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from xlsr_live.client.bench.corpus import read_corpus
from xlsr_live.training.recordings import Listed

from tests.support.checkpoints import publish
from tests.support.fine_tuning import TINY, TOKENS
from tests.support.spoken_tables import write_table


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> list[Listed]:
    path = write_table(tmp_path_factory.mktemp("speech"))
    return [Listed(each.path, each.text, each.speaker) for each in read_corpus(path)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("base") / "ctc", TINY, TOKENS)
