"""The watchdog: workers that hang are replaced, failed encoders are probed, broken ones are given up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from xlsr_live.server.models.watchdog import MAX_FAILED_PROBES, PROBE_INTERVAL, Watchdog
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.protocol.events import Error, Event, Final, SessionEnded
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.engine_model import LIMIT, Clock, Hanging, Model
from tests.support.serving import get, metrics
from tests.support.wire import END, dial, listen, settles


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    model = Hanging(1)
    yield model
    model.freed.set()


def test_a_hanging_worker_is_replaced_and_the_new_one_probed(hanging: Hanging):
    clock = Clock()
    engine = Engine(hanging, clock=clock)
    watchdog = Watchdog(engine, stall_s=60)
    stuck = engine.submit(np.ones(400, np.float32), deadline=0)
    assert hanging.hung.acquire(timeout=LIMIT)
    clock.now = 60.0
    watchdog.check()
    assert not stuck.done()
    assert engine.healthy
    clock.now = 60.1
    watchdog.check()
    assert stuck.exception(0) is not None
    watchdog.probe.result(LIMIT)  # the probe proves that it answers
    assert engine.healthy
    before = engine.counters.pass_waits.count
    watchdog.check()
    assert engine.counters.pass_waits.count == before  # a healthy encoder is not probed
    engine.close()


def test_a_failed_encoder_is_probed_until_it_answers():
    broken = threading.Event()
    broken.set()

    def fail(batch: list[int]) -> None:
        if broken.is_set():
            raise RuntimeError("the device is gone")

    model = Model(act=fail)
    model.go.set()
    engine = Engine(model)
    watchdog = Watchdog(engine, stall_s=60)
    for _ in range(3):
        engine.submit(np.ones(400, np.float32), deadline=0).exception(LIMIT)
    assert not engine.healthy
    for number in range(2 * PROBE_INTERVAL):
        watchdog.check()
        assert (watchdog.probe is None) == (number < PROBE_INTERVAL - 1)
        if watchdog.probe is not None:
            watchdog.probe.exception(LIMIT)
    assert engine.counters.failures == 3 + 2
    broken.clear()
    for _ in range(PROBE_INTERVAL):
        watchdog.check()
    watchdog.probe.result(LIMIT)
    assert engine.healthy
    engine.close()


def test_an_encoder_that_never_recovers_is_given_up():
    """A GPU after an illegal access, until its process ends."""
    requests: list[int] = []

    def fail(batch: list[int]) -> None:
        requests.extend(batch)
        if len(requests) != 3 + MAX_FAILED_PROBES // 2:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    model = Model(act=fail)
    model.go.set()
    engine = Engine(model)
    watchdog = Watchdog(engine, stall_s=60)

    def fail_and_check(probes: int) -> None:
        for _ in range(3):
            engine.submit(np.ones(400, np.float32), deadline=0).exception(LIMIT)
        for _ in range(probes * PROBE_INTERVAL):
            watchdog.check()
            if watchdog.probe is not None:
                watchdog.probe.exception(LIMIT)

    fail_and_check(MAX_FAILED_PROBES)  # one probe succeeds
    watchdog.check()
    assert engine.healthy
    fail_and_check(MAX_FAILED_PROBES)
    assert engine.alive
    fail_and_check(1)
    assert not engine.alive


def test_sessions_survive_a_hanging_encoder(
    recognizer: Recognizer, clip: Callable[[str], NDArray[np.int16]], monkeypatch: pytest.MonkeyPatch
):
    """One live step never returns; the final does not change."""
    freed, hung = threading.Event(), threading.Event()
    encoder = recognizer.encoder

    class HangsOnce:
        def __getattr__(self, name: str) -> Any:
            return getattr(encoder, name)

        def encode_steps(self, batch: Any) -> Any:
            if not hung.is_set():
                hung.set()
                assert freed.wait(LIMIT)
                raise RuntimeError("too late")
            return encoder.encode_steps(batch)

    async def scene(server: RunningServer) -> list[Event]:
        async with dial(server.url) as websocket:
            await websocket.send(clip("george").tobytes())
            await asyncio.to_thread(hung.wait, LIMIT)
            await websocket.send(END)
            return await listen(websocket)

    other = Recognizer(HangsOnce(), recognizer.assets)  # type: ignore[arg-type]
    replace, counters = other.engine.replace_stuck_worker, other.engine.counters

    def replace_hanging(patience_s: float) -> bool:
        """A call that only takes long, on a busy machine, is none that hangs."""
        return hung.is_set() and not counters.restarts and replace(patience_s)

    monkeypatch.setattr(other.engine, "replace_stuck_worker", replace_hanging)
    try:
        with running_server(other, ServerSettings(stall_s=0.3)) as server:
            events = asyncio.run(scene(server))
            assert settles(lambda: get(server, "/readyz").status_code, 200)
            assert metrics(server)["xlsr_live_engine_restarts_total"] == 1
    finally:
        freed.set()
        other.close()
    assert [event.code for event in events if isinstance(event, Error)] == ["encoder_failed"]
    assert [event.text for event in events if isinstance(event, Final)] == ["ONE TWO NINE FOUR EIGHT ONE"]
    assert isinstance(events[-1], SessionEnded)
