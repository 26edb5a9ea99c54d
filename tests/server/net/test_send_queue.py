from __future__ import annotations

import asyncio

import pytest
from xlsr_live.server.net.send_queue import CONGESTED, MAX_BYTES, SendQueue
from xlsr_live.server.transport import Data
from xlsr_live.streaming.protocol.codes import ProtocolError


async def drained(outbox: SendQueue) -> list[Data]:
    outbox.finish()
    return [message async for message in outbox if message is not None]


def test_a_reader_that_keeps_up_gets_every_message():
    outbox, messages = SendQueue(100), [str(index) for index in range(CONGESTED)]
    for message in messages:
        outbox.put(message, 0)
    assert asyncio.run(drained(outbox)) == messages
    assert outbox.replaced == 0


def test_a_slow_reader_gets_the_newest_of_each_topic():
    outbox = SendQueue(100)
    before = [str(index) for index in range(CONGESTED)]
    for message in before:
        outbox.put(message)
    for message, topic in (("A", 0), ("A B", 0), ("A B C", 0), ("D", 1), ("D E", 1), ("F", None), ("G", None)):
        outbox.put(message, topic)
    assert asyncio.run(drained(outbox)) == [*before, "A B C", "D E", "F", "G"]
    assert outbox.replaced == 3


def test_the_limit_is_an_error_not_a_wait():
    outbox = SendQueue(100)
    for index in range(100):
        outbox.put(str(index))
    with pytest.raises(ProtocolError, match="100 unread events") as error:
        outbox.put("one more")
    assert error.value.code == "slow_reader"


def test_large_messages_have_their_own_limit():
    outbox, large = SendQueue(100), "x" * (MAX_BYTES // 4)
    for _ in range(2):
        for _ in range(4):
            outbox.put(large)
        with pytest.raises(ProtocolError, match="bytes") as error:
            outbox.put("one more")
        assert error.value.code == "slow_reader"
        assert asyncio.run(taken(outbox, 4)) == [large] * 4  # now there is room again


async def taken(outbox: SendQueue, count: int) -> list[Data | None]:
    reader = aiter(outbox)
    return [await anext(reader) for _ in range(count)]


def test_messages_after_the_end_are_ignored():
    outbox = SendQueue(100)
    outbox.put("A")
    outbox.finish()
    outbox.put("B")
    assert asyncio.run(drained(outbox)) == ["A"]


def test_a_waiting_reader_is_woken():
    async def scene() -> Data:
        outbox = SendQueue(100)
        reader = asyncio.create_task(anext(aiter(outbox)))
        await asyncio.sleep(0)  # the reader waits now
        outbox.put("A")
        return await reader

    assert asyncio.run(scene()) == "A"


def test_a_writer_can_wait_for_the_reader():
    async def scene() -> None:
        outbox = SendQueue(100)
        for index in range(CONGESTED):
            await outbox.room()
            outbox.put(str(index))
        waiting = asyncio.create_task(outbox.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        assert await anext(aiter(outbox)) == "0"
        await waiting

    asyncio.run(scene())
