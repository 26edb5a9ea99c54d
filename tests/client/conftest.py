"""Commands with the shared model, and a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.streaming.config import ModelOptions
from xlsr_live.streaming.recognizer import Recognizer


@pytest.fixture
def loaded(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> list[ModelOptions]:
    """Commands use the shared model of the test run; returns the options of every load."""
    loaded_options: list[ModelOptions] = []

    class Shared:
        def __enter__(self) -> Recognizer:
            return recognizer

        def __exit__(self, *_: object) -> None:
            pass

    def load(options: ModelOptions) -> Shared:
        loaded_options.append(options)
        return Shared()

    monkeypatch.setattr("xlsr_live.client.commands.transcribe.load_recognizer", load)
    return loaded_options


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer) as server:
        yield server
