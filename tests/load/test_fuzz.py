"""Whatever is sent to the server or written for it: declared errors, and nothing else. `fuzz.py` does more of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.support.hostile import Server
from tests.support.targets import TARGETS


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_is_offered(name: str, server: Server):
    target = TARGETS[name]

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(target.offered)
    def all_of_it(each: Any) -> None:
        target.ask(server, each)

    all_of_it()
