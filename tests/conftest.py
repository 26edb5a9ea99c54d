"""What several test modules share: two models, loaded once, and recordings of which every word is known."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from xlsr_live.server.logs import JsonFormatter, TextFormatter
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.paths import CLIPS, DIGITS
from tests.support.tls import certificate  # noqa: F401  a fixture


@pytest.fixture(autouse=True)
def no_log_of_a_server_that_is_gone() -> Iterator[None]:
    """`serve` sends the log of the process to stderr, which is another one in each test."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
    for handler in [each for each in root.handlers if isinstance(each.formatter, JsonFormatter | TextFormatter)]:
        root.removeHandler(handler)


@pytest.fixture(scope="session")
def recognizer() -> Iterator[Recognizer]:
    """The digits model: it hears every word of the clips."""
    with Recognizer.load(str(DIGITS), device="cpu", adaptive=False) as recognizer:  # whatever else the machine does
        yield recognizer


@pytest.fixture(scope="session")
def packaged() -> Iterator[Recognizer]:
    """The packaged model without its language model. Which words it hears is no test's business."""
    with Recognizer.load(device="cpu", adaptive=False, lm="none") as recognizer:
        yield recognizer


@pytest.fixture(scope="session")
def clip() -> Callable[[str], NDArray[np.int16]]:
    """A clip of the tests by its name: 16 kHz mono samples."""

    def read(name: str) -> NDArray[np.int16]:
        samples, rate = soundfile.read(CLIPS / f"{name}.flac", dtype="int16")
        assert rate == 16_000
        return samples

    return read


@pytest.fixture(scope="session")
def brief(clip: Callable[[str], NDArray[np.int16]]) -> Callable[[str], NDArray[np.int16]]:
    """The first three words of a clip: enough where what is heard must only be the same as elsewhere."""
    return lambda name: clip(name)[:44_000]
