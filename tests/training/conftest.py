"""A small table of recordings, a small base, and a folder of the recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
from xlsr_live.client.bench.corpus import read_corpus
from xlsr_live.training.recipe.settings import Work
from xlsr_live.training.recordings import Listed

from tests.support.checkpoints import publish
from tests.support.fine_tuning import TINY, TOKENS
from tests.support.small_recipe import noise_as_speech
from tests.support.spoken_tables import write_table


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> list[Listed]:
    path = write_table(tmp_path_factory.mktemp("speech"))
    return [Listed(each.path, each.text, each.speaker) for each in read_corpus(path)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("base") / "ctc", TINY, TOKENS)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return noise_as_speech(tmp_path)
