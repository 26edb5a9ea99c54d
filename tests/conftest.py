"""Shared fixtures: two models, loaded once, and recordings with known words."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for torch and the servers that tests start: each core has its process

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from xlsr_live.server.logs import JsonFormatter, TextFormatter
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.paths import CLIPS, DIGITS
from tests.support.tls import certificate  # noqa: F401  a fixture


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks every test that uses Chromium, and skips what takes minutes unless `-m full_size` asks for it.

    Files with slow tests come first, so that no process is left with one of them at the end.
    """
    asked = "full_size" in config.option.markexpr
    for item in items:
        if item.get_closest_marker("full_size") and not asked:
            item.add_marker(pytest.mark.skip(reason="only pytest -m full_size runs it"))
        if isinstance(item, pytest.Function) and "browser" in item.fixturenames:
            item.add_marker(pytest.mark.browser)
    slow = {each.path for each in items if any(map(each.get_closest_marker, ("slow", "cluster", "browser")))}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def restore_root_logger() -> Iterator[None]:
    """`serve` logs to stderr, which is a different stream in each test."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
    for handler in [each for each in root.handlers if isinstance(each.formatter, JsonFormatter | TextFormatter)]:
        root.removeHandler(handler)


@pytest.fixture(scope="session")
def recognizer() -> Iterator[Recognizer]:
    """The digits model, which recognizes every word of the clips."""
    with Recognizer.load(str(DIGITS), device="cpu", adaptive=False) as recognizer:  # independent of machine load
        yield recognizer


@pytest.fixture(scope="session")
def packaged() -> Iterator[Recognizer]:
    """The packaged model without its language model. Tests do not depend on the words it recognizes."""
    with Recognizer.load(device="cpu", adaptive=False, lm="none") as recognizer:
        yield recognizer


@pytest.fixture(scope="session")
def clip() -> Callable[[str], NDArray[np.int16]]:
    """Reads a test clip by its name: 16 kHz mono samples."""

    def read(name: str) -> NDArray[np.int16]:
        samples, rate = soundfile.read(CLIPS / f"{name}.flac", dtype="int16")
        assert rate == 16_000
        return samples

    return read


@pytest.fixture(scope="session")
def brief(clip: Callable[[str], NDArray[np.int16]]) -> Callable[[str], NDArray[np.int16]]:
    """The first three words of a clip, for tests that only compare transcripts."""
    return lambda name: clip(name)[:44_000]
