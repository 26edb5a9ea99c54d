import asyncio

import pytest
from xlsr_live.server.messages import ProtocolError
from xlsr_live.server.outbox import CONGESTED, Outbox
from xlsr_live.streaming.events import Event, Partial, SpeechStarted


def partial(utterance: int, text: str) -> Partial:
    return Partial(utterance=utterance, committed=text, volatile="", words=(), audio_s=0.0, lag_ms=0.0)


async def drained(outbox: Outbox) -> list[Event]:
    outbox.finish()
    return [event async for event in outbox if event is not None]


def test_a_reader_that_keeps_up_gets_every_event():
    outbox, events = Outbox(100), [partial(0, str(index)) for index in range(CONGESTED)]
    for event in events:
        outbox.put(event)
    assert asyncio.run(drained(outbox)) == events
    assert outbox.replaced == 0


def test_a_slow_reader_gets_the_newest_partial_of_each_utterance():
    outbox = Outbox(100)
    before = [SpeechStarted(utterance=index, start=0.0) for index in range(CONGESTED)]
    for event in before:
        outbox.put(event)
    for event in (partial(0, "A"), partial(0, "A B"), partial(0, "A B C"), partial(1, "D"), partial(1, "D E")):
        outbox.put(event)
    assert asyncio.run(drained(outbox)) == [*before, partial(0, "A B C"), partial(1, "D E")]
    assert outbox.replaced == 3


def test_the_limit_is_an_error_not_a_wait():
    outbox = Outbox(100)
    for index in range(100):
        outbox.put(SpeechStarted(utterance=index, start=0.0))
    with pytest.raises(ProtocolError, match="100 events") as error:
        outbox.put(SpeechStarted(utterance=100, start=0.0))
    assert error.value.code == "slow_reader"


def test_nothing_is_taken_after_the_end():
    outbox = Outbox(100)
    outbox.put(partial(0, "A"))
    outbox.finish()
    outbox.put(partial(0, "A B"))
    assert asyncio.run(drained(outbox)) == [partial(0, "A")]


def test_a_waiting_reader_is_woken():
    async def scene() -> Event:
        outbox = Outbox(100)
        reader = asyncio.create_task(anext(aiter(outbox)))
        await asyncio.sleep(0)  # the reader waits now
        outbox.put(partial(0, "A"))
        return await reader

    assert asyncio.run(scene()) == partial(0, "A")
