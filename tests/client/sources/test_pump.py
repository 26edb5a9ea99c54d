"""Sending and receiving in parallel, the clock of recordings, and Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable

import pytest
from xlsr_live.client.errors import ConnectionProblem
from xlsr_live.client.pump import END_HERE, REPEAT_S, Block, pump
from xlsr_live.client.sources.sources import paced
from xlsr_live.streaming.config import AudioFormat
from xlsr_live.streaming.errors import AudioError, XlsrLiveError
from xlsr_live.streaming.protocol.events import Error, Event, Final, SessionEnded


class Echo:
    """A session whose final is the number of bytes it received."""

    def __init__(self, *first: Event, after: int = 10**9) -> None:
        self.sent: list[Block] = []
        self.first = first
        self.after = after  # blocks; then the session ends on its own
        self.ended = asyncio.Event()

    async def send(self, audio: Block) -> None:
        self.sent.append(audio)
        if len(self.sent) >= self.after:
            self.ended.set()
        await asyncio.sleep(0)

    async def flush(self) -> None:
        self.sent.append(END_HERE)

    async def end(self) -> None:
        self.ended.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        for event in self.first:
            yield event
        await self.ended.wait()
        yield Final(utterance=0, text=str(len(self.sent)), words=(), start=0, end=1, confidence=1)
        yield SessionEnded(audio_s=0, utterances=1)


async def source(blocks: Iterable[Block], then: Exception | None = None, forever: bool = False) -> AsyncIterator[Block]:
    for block in blocks:
        yield block
    if then:
        raise then
    while forever:
        await asyncio.sleep(0.01)
        yield b"more"


def test_everything_is_sent_then_ended():
    async def run() -> tuple[list[Event], int]:
        shown: list[Event] = []
        return shown, await pump(Echo(), source([b"a", b"b", b"c"]), shown.append)

    shown, status = asyncio.run(run())
    assert [type(event) for event in shown] == [Final, SessionEnded]
    assert shown[0].text == "3"
    assert status == 0


def test_ctrl_c_lets_a_source_that_can_stop_send_what_waits():
    async def run() -> str:
        shown: list[Event] = []
        stopped = asyncio.Event()

        async def blocks() -> AsyncIterator[Block]:
            yield b"first"
            await stopped.wait()
            yield b"recorded before Ctrl-C"

        asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGINT)
        assert await pump(Echo(), blocks(), shown.append, stop=stopped.set)
        return shown[0].text

    assert asyncio.run(run()) == "2"


def test_a_flush_among_the_blocks_ends_the_utterance():
    session = Echo()
    asyncio.run(pump(session, source([b"a", END_HERE, b"b"]), lambda _: None))
    assert session.sent == [b"a", END_HERE, b"b"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_audio_and_keeps_the_last_final(number: signal.Signals, status: int):
    async def run() -> list[Event]:
        shown: list[Event] = []
        asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), number)
        assert await pump(Echo(), source([b"a"], forever=True), shown.append) == status
        return shown

    shown = asyncio.run(run())
    assert [type(event) for event in shown] == [Final, SessionEnded]


def test_ctrl_c_twice_gives_up(monkeypatch: pytest.MonkeyPatch):
    interrupted = asyncio.Event()

    class Stuck(Echo):
        async def end(self) -> None:
            interrupted.set()

    async def run() -> None:
        loop, session, now = asyncio.get_running_loop(), Stuck(), 0.0
        monkeypatch.setattr(loop, "time", lambda: now)
        pumping = asyncio.create_task(pump(session, source([b"a"], forever=True), lambda _: None))
        while not session.sent:
            await asyncio.sleep(0)
        for _ in range(2):  # the second is an echo of the first
            os.kill(os.getpid(), signal.SIGINT)
        await interrupted.wait()
        assert not pumping.cancelling()
        now = 2 * REPEAT_S
        os.kill(os.getpid(), signal.SIGINT)
        await pumping

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())


def test_with_nohup_a_closed_terminal_ends_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        session = Echo()

        async def blocks() -> AsyncIterator[Block]:
            os.kill(os.getpid(), signal.SIGHUP)
            yield b"a"

        assert asyncio.run(pump(session, blocks(), lambda _: None)) == 0
        assert session.sent == [b"a"]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_failing_source_is_reported_after_the_text_of_what_came_before():
    shown: list[Event] = []

    async def run() -> None:
        await pump(Echo(), source([b"a", b"b"], then=AudioError("NaN")), shown.append)

    with pytest.raises(AudioError, match="NaN"):
        asyncio.run(asyncio.wait_for(run(), 60))
    assert [type(event) for event in shown] == [Final, SessionEnded]
    assert isinstance(shown[0], Final)
    assert shown[0].text == "2"


def test_an_error_event_is_raised_after_the_finals():
    shown: list[Event] = []

    async def run() -> None:
        await pump(Echo(Error(code="encoder_failed", message="out of memory")), source([b"a"]), shown.append)

    with pytest.raises(XlsrLiveError, match="out of memory") as error:
        asyncio.run(run())
    assert error.value.code == "encoder_failed"
    assert [type(event) for event in shown] == [Error, Final, SessionEnded]


def test_a_session_that_ends_before_the_audio_is_a_problem():
    async def run() -> None:
        await pump(Echo(after=3), source([b"a"], forever=True), lambda _: None)

    with pytest.raises(ConnectionProblem, match="ended before the audio"):
        asyncio.run(asyncio.wait_for(run(), 60))


def schedule(pace: float, slow: dict[int, float]) -> list[float]:
    """Arrival times of ten blocks of 20 ms, on a clock that only sleep moves; the consumer needs `slow[i]` seconds for
    block i."""

    async def run() -> list[float]:
        times, now = [], 0.0

        async def sleep(seconds: float) -> None:
            nonlocal now
            now += seconds

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "time", lambda: now)
            patch.setattr(asyncio, "sleep", sleep)
            async for _ in paced(source([bytes(640)] * 10), AudioFormat(), pace):
                times.append(now)
                await asyncio.sleep(slow.get(len(times) - 1, 0))
        return times

    return asyncio.run(run())


def test_recorded_audio_is_paced_in_real_time_and_delays_do_not_add_up():
    times = schedule(1.0, {2: 0.06})
    # It catches up, and is back on time.
    assert times == pytest.approx([0.02, 0.04, 0.06, 0.12, 0.12, 0.12, 0.14, 0.16, 0.18, 0.2])


def test_pace_is_a_speed_and_0_does_not_wait():
    assert schedule(2.0, {})[-1] == pytest.approx(0.1)
    assert schedule(0, {})[-1] == 0
