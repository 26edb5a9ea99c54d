"""The event loop's idle time, and the alarm of one that has none."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from xlsr_live.server.net.loop import INTERVAL_S, BusyAlarm, MeasuredLoop, new_loop

pytestmark = pytest.mark.skipif(os.name != "posix", reason="asyncio's loop is not on a selector here")


def test_waiting_is_idle_and_work_is_not():
    async def wait_and_work() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MeasuredLoop)
        before = loop.idle_s
        await asyncio.sleep(0.2)
        waited = loop.idle_s - before
        end, before = time.monotonic() + 0.2, loop.idle_s
        while time.monotonic() < end:
            await asyncio.sleep(0)
        return waited, loop.idle_s - before

    with asyncio.Runner(loop_factory=new_loop) as runner:
        waited, worked = runner.run(wait_and_work())
    assert waited > 0.1
    assert worked == 0


def test_what_is_ready_is_not_waited_for():
    async def talk() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MeasuredLoop)
        reading, writing = os.pipe()
        reader = asyncio.StreamReader()
        with os.fdopen(reading, "rb", 0) as source:
            transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
            before = loop.idle_s
            for _ in range(100):
                os.write(writing, b"x")
                await reader.readexactly(1)
            idle_s = loop.idle_s - before
            os.close(writing)
            transport.close()
            await asyncio.sleep(0)
            return idle_s

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(talk()) == 0


def test_the_alarm_is_raised_once_for_each_busy_time():
    now, idle_s = 100.0, 40.0
    alarm = BusyAlarm(idle_s, now)
    shares = (0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.05, 0.0, 0.0, 0.5, 0.0, 0.0)
    raised: list[bool] = []
    for share in shares:
        now, idle_s = now + INTERVAL_S, idle_s + share * INTERVAL_S
        raised.append(alarm.check(idle_s, now))
    assert [at for at, one in enumerate(raised) if one] == [4, 11]
