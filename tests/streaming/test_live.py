"""One stream in an event loop: back-pressure, slow readers, aborts in mid-word, and parallel streams."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.errors import AudioError, SessionClosed
from xlsr_live.streaming.live import StreamSession
from xlsr_live.streaming.protocol.events import Error, Event, Final, Partial, SessionEnded, SessionStarted
from xlsr_live.streaming.session.session import Session

from tests.support.driving import lines, run, utterances
from tests.support.fakes import VOCABULARY, LoudVad, sound
from tests.support.streams import LIMIT, SPEECH, Held, events_of, running, say, session, until


@pytest.fixture
def encoder() -> Held:
    return Held()


@pytest.fixture
def engine(encoder: Held) -> Iterator[Engine]:
    engine = Engine(encoder, adaptive=False)  # independent of machine load
    yield engine
    encoder.go.set()
    engine.close()


@pytest.mark.parametrize("size", [100, 1_600, 1_000_000])
def test_events_equal_those_of_the_core(engine: Engine, size: int):
    async def scene() -> list[Event]:
        async with session(engine) as stream:
            return await say(stream, SPEECH, size)

    assert lines(running(scene)) == lines(run([SPEECH]))


def test_bytes_and_a_flush(engine: Engine):
    audio = (sound("..AB CD ") * 32_768).astype("<i2").tobytes()

    async def scene() -> list[Event]:
        async with session(engine) as stream:
            await stream.send(audio)
            await stream.flush()
            await stream.send(audio[:-1])
            await stream.end()
            await stream.end()
            return await events_of(stream)

    events = running(scene)
    assert [utterance.reason for utterance in utterances(events)] == ["flush", "end"]
    assert [event.code for event in events if isinstance(event, Error)] == ["truncated_sample"]


def test_parallel_sessions_have_the_events_of_single_ones(engine: Engine):
    sounds = [
        sound("." * (i + 1) + f"{word} {word[::-1]} " + "." * 9) for i, word in enumerate(["AB", "CDE", "F", "GH"])
    ]

    async def scene() -> list[list[Event]]:
        return await asyncio.gather(*(say(session(engine), audio, 700 + 300 * i) for i, audio in enumerate(sounds)))

    together = running(scene)
    assert [lines(events) for events in together] == [lines(run([audio])) for audio in sounds]


def test_a_fast_sender_waits_and_nothing_is_lost(engine: Engine, encoder: Held):
    config = SessionConfig(max_utterance_ms=2_000)
    audio = np.tile(sound("AB CD EF~~~GH "), 40)
    encoder.go.clear()

    async def scene() -> list[Event]:
        async with session(engine, config) as stream:
            sending = asyncio.create_task(stream.send(audio))
            await until(lambda: not stream._session.can_take(audio[:8_192]))
            for _ in range(50):
                await asyncio.sleep(0)
            assert not sending.done()
            held = stream._session._front.ring
            assert held.end < len(audio)
            encoder.go.set()
            listening = asyncio.create_task(events_of(stream))
            await sending
            await stream.end()
            assert held.dropped == 0
            return await listening

    events = running(scene)
    packets = [audio[at : at + 80_000] for at in range(0, len(audio), 80_000)]
    assert lines(events) == lines(run(packets, config))


def test_a_slow_reader_misses_partials_but_never_a_final(engine: Engine):
    config = SessionConfig(hop_ms=20, left_context_ms=100, lookahead_ms=0, hold_back_ms=0, update_ms=0)
    audio = sound("." + "ABCD EFGH " * 8 + "." * 10 + "ABC " + "." * 10)

    async def scene() -> tuple[list[Event], int]:
        async with session(engine, config) as stream:
            await stream.send(audio)
            await stream.end()
            await until(lambda: stream._session.ended)
            return await events_of(stream), stream.coalesced

    late, coalesced = running(scene)
    eager = run([audio], config)
    assert coalesced > 0
    assert len(late) == len(eager) - coalesced
    assert [event for event in late if not isinstance(event, Partial)] == [
        event for event in eager if not isinstance(event, Partial)
    ]
    partials = [utterance.partials[-1] for utterance in utterances(late)]
    assert partials == [utterance.partials[-1] for utterance in utterances(eager)]  # the newest one is kept


def test_leaving_in_mid_word_releases_everything(engine: Engine, encoder: Held):
    encoder.go.clear()
    held = engine.submit(np.zeros(400, np.float32), deadline=0.0)  # keeps the worker busy, so later requests wait

    async def scene() -> weakref.ref[StreamSession]:
        await until(held.running)
        stream = session(engine)
        await stream.send(sound("..ABCDEFGH"))
        listening = asyncio.create_task(events_of(stream))
        await asyncio.sleep(0)
        await stream.aclose()
        events = await listening
        assert isinstance(events[0], SessionStarted)
        assert not [event for event in events if isinstance(event, Final | SessionEnded)]
        for forbidden in (stream.send(b"\0\0"), stream.flush()):
            with pytest.raises(SessionClosed):
                await forbidden
        await stream.end()
        encoder.go.set()
        return weakref.ref(stream)

    gone = running(scene)
    engine.submit(np.zeros(400, np.float32), deadline=1e9).result(LIMIT)  # the worker has finished everything before
    gc.collect()
    assert gone() is None
    assert engine.queued == 0
    assert len(encoder.batches) <= 2
    assert engine.counters.withdrawn >= 1


def test_packets_of_two_senders_are_not_mixed(engine: Engine):
    first, second = np.tile(sound("..AB CD ~~"), 5), np.tile(sound("EF.........."), 5)
    assert min(len(first), len(second)) > 3 * 8_192  # several pieces each

    async def scene() -> list[Event]:
        async with session(engine) as stream:
            await asyncio.gather(stream.send(first), stream.send(second))
            await stream.end()
            return await events_of(stream)

    assert lines(running(scene)) == lines(run([first, second]))


def test_closing_wakes_a_sender_that_waits(engine: Engine, encoder: Held):
    encoder.go.clear()

    async def scene() -> None:
        stream = session(engine, SessionConfig(max_utterance_ms=2_000))
        sending = asyncio.create_task(stream.send(np.tile(sound("AB "), 400)))
        await until(lambda: not stream._session.can_take(np.zeros(8_192, np.float32)))
        await stream.aclose()
        with pytest.raises(SessionClosed):
            await sending

    running(scene)


def test_a_send_that_is_cancelled_leaves_the_session_in_order(engine: Engine, encoder: Held):
    config = SessionConfig(max_utterance_ms=2_000)
    audio = np.tile(sound("AB CD EF~~~GH "), 40)
    encoder.go.clear()

    async def scene() -> tuple[list[Event], int]:
        async with session(engine, config) as stream:
            sending = asyncio.create_task(stream.send(audio))
            await until(lambda: not stream._session.can_take(audio[:8_192]))
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            taken = stream._session._front.position
            encoder.go.set()
            return await say(stream, audio[taken:]), taken

    events, taken = running(scene)
    assert 0 < taken < len(audio)
    packets = [audio[at : at + 80_000] for at in range(0, len(audio), 80_000)]
    assert lines(events) == lines(run(packets, config))


def test_a_large_packet_with_a_bad_sample_at_its_end_is_refused_whole(engine: Engine):
    async def scene() -> list[Event]:
        async with session(engine) as stream:
            bad = np.tile(SPEECH, 3)
            bad[-1] = np.nan
            with pytest.raises(AudioError):
                await stream.send(bad)
            return await say(stream, SPEECH)

    assert lines(running(scene)) == lines(run([SPEECH]))


def test_after_the_end_audio_is_refused(engine: Engine):
    async def scene() -> None:
        async with session(engine) as stream:
            await stream.end()
            for forbidden in (stream.send(b"\0\0"), stream.flush()):
                with pytest.raises(SessionClosed):
                    await forbidden

    running(scene)


def test_an_engine_that_is_closed_ends_the_session_with_errors_and_not_with_silence(engine: Engine):
    engine.close()

    async def scene() -> list[Event]:
        async with session(engine) as stream:
            return await say(stream, SPEECH)

    events = running(scene)
    assert len(utterances(events)) == 2
    assert {event.code for event in events if isinstance(event, Error)} == {"encoder_failed"}


def test_an_answer_after_the_end_of_the_loop_is_harmless(engine: Engine, encoder: Held):
    encoder.go.clear()

    async def scene() -> StreamSession:
        stream = session(engine)
        await stream.send(sound("..ABCDEFGH"))
        return stream

    left = running(scene)
    encoder.go.set()
    engine.submit(np.zeros(400, np.float32), deadline=1e9).result(LIMIT)
    assert engine.alive
    assert left._closed


def cached(engine: Engine) -> StreamSession:
    core = Session(VOCABULARY, vad=LoudVad(), normalized=False, modes=("cached", "window"), name="s")
    return StreamSession(core, engine, clock=lambda: 0.0)


def test_in_cached_mode_events_equal_those_of_the_core_and_the_cache_is_freed(engine: Engine, encoder: Held):
    async def scene() -> list[Event]:
        async with cached(engine) as stream:
            return await say(stream, SPEECH, 1_600)

    cached_events = lines(running(scene)).replace('"cached"', '"window"')
    assert cached_events == lines(run([SPEECH]))
    assert engine.counters.step_waits.count > 2
    engine.submit(SPEECH[:400], deadline=0.0).result(LIMIT)
    assert not encoder.caches


@pytest.mark.parametrize("closes", [True, False])
def test_a_session_that_leaves_in_mid_utterance_frees_its_cache(engine: Engine, encoder: Held, closes: bool):
    async def scene() -> None:
        stream = cached(engine)
        await stream.send(SPEECH[:16_000])
        await until(lambda: engine.counters.step_waits.count > 0)
        assert len(encoder.caches) == 1
        if closes:
            await stream.aclose()

    running(scene)
    for _ in range(20):  # the worker may hold the last step of the session, and with it the session, for a while
        gc.collect()
        engine.submit(SPEECH[:400], deadline=0.0).result(LIMIT)
    assert not encoder.caches
