"""Any input to the server gives a valid answer or a declared error. `fuzz.py` runs the same for longer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.support.fuzz_server import Server
from tests.support.fuzz_targets import TARGETS


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.mark.parametrize("name", TARGETS)
def test_any_input_gives_a_declared_answer(name: str, server: Server):
    target = TARGETS[name]

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(target.inputs)
    def feed(value: Any) -> None:
        target.feed(server, value)

    feed()
