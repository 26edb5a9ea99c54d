"""An engine with a busy worker, for the tests of the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from xlsr_live.streaming.engine.engine import Engine

from tests.support.engine_model import LIMIT, Model, audio


@pytest.fixture
def start() -> Iterator[Callable[[Model], Engine]]:
    """Starts an engine whose worker runs request 0."""
    started: list[tuple[Engine, Model]] = []

    def begin(model: Model) -> Engine:
        engine = Engine(model)
        started.append((engine, model))
        engine.submit(audio(0), deadline=0.0)
        assert model.busy.wait(LIMIT)
        return engine

    yield begin
    for engine, model in started:
        model.go.set()
        engine.close()
