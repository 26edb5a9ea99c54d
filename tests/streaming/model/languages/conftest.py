"""A checkpoint with several languages, for the tests of its rows, its memory and its sessions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from xlsr_live.streaming.model.encoder import XlsrEncoder

from tests.support.checkpoints import publish_multilingual
from tests.support.languages import TOKENS, opened


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_multilingual(tmp_path_factory.mktemp("mms"), TOKENS, target=None)


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


@pytest.fixture(scope="session")
def single(checkpoint: Path) -> XlsrEncoder:
    return opened(checkpoint, max_batch=1)[0]
