"""A wait that another task interrupts: the task goes on, and its own cancellation still works."""

from __future__ import annotations

import asyncio

import pytest
from xlsr_live.server.sessions.interruption import Interrupted, Interruption


async def wait(interruption: Interruption, log: list[str]) -> None:
    try:
        with interruption:
            await asyncio.Event().wait()
    except Interrupted:
        log.append("interrupted")


def test_an_interrupted_task_goes_on_and_can_wait_again() -> None:
    async def run() -> None:
        interruption, log = Interruption(), list[str]()

        async def twice() -> None:
            await wait(interruption, log)
            await asyncio.sleep(0)
            await wait(interruption, log)

        task = asyncio.create_task(twice())
        while not task.done():
            interruption.interrupt()
            interruption.interrupt()  # no more than once
            await asyncio.sleep(0)
        assert log == ["interrupted", "interrupted"]
        assert not task.cancelling()

    asyncio.run(run())


@pytest.mark.parametrize("also_interrupted", [False, True])
def test_the_cancellation_of_the_task_is_no_interruption(also_interrupted: bool) -> None:
    async def run() -> None:
        interruption, log = Interruption(), list[str]()
        task = asyncio.create_task(wait(interruption, log))
        await asyncio.sleep(0)
        task.cancel()
        if also_interrupted:
            interruption.interrupt()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not log

    asyncio.run(run())


def test_nothing_is_interrupted_outside_of_the_block() -> None:
    async def run() -> bool:
        interruption = Interruption()
        interruption.interrupt()
        with interruption:
            await asyncio.sleep(0)
        interruption.interrupt()
        await asyncio.sleep(0)
        return True

    assert asyncio.run(run())
