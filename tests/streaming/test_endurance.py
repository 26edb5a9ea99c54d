"""Half an hour through one session: memory stays flat and times do not drift by a sample."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.protocol.events import Final, SessionEnded, SpeechEnded, SpeechStarted
from xlsr_live.streaming.session.session import Session

from tests.support.fakes import VOCABULARY, FakeEncoder, LoudVad, sound

MINUTES = 30


@pytest.mark.slow
def test_half_an_hour_needs_no_more_memory_than_five_minutes_and_times_stay_exact():
    # 12 s: onset at 0.3 s, so the utterance starts at 0; its last letter ends at 2.5 s; then silence.
    turn = np.concatenate((sound("..."), np.tile(sound("ABC DEF "), 3), sound("." * 200)))[:192_000]
    loud = np.flatnonzero(turn)
    onset, last = int(loud[0]) // 480 * 480, -(-(int(loud[-1]) + 1) // 480) * 480
    config = SessionConfig(left_context_ms=500, hop_ms=960)
    session = Session(VOCABULARY, config, vad=LoudVad(), normalized=True)
    encoder = FakeEncoder(context=False)
    turns = MINUTES * 60 // 12
    spans: list[tuple[float, float]] = []
    finals = held = ended = 0
    start = 0.0
    flat: list[int] = []
    tracemalloc.start()
    for index in range(turns * 120):  # packets of 100 ms
        at = index % 120 * 1_600
        session.receive_audio(turn[at : at + 1_600], index / 10)
        for request in session.requests():
            session.receive_answer(request.id, encoder.rows(request.samples), index / 10)
        for event in session.events():
            match event:
                case SpeechStarted():
                    start = event.start
                case Final():
                    finals += 1
                case SpeechEnded():
                    spans.append((start, event.end))
        ring = session._front.ring
        held = max(held, ring.end - ring.start)
        if index % (120 * 25) == 120 * 25 - 1:  # every 5 minutes
            flat.append(tracemalloc.get_traced_memory()[0])
            assert len(session._outbox._arrivals) < 100
            encoder.batches.clear()
    tracemalloc.stop()
    session.receive_eof(0.0)
    for event in session.events():
        assert isinstance(event, SessionEnded)
        ended += 1
        assert (event.audio_s, event.utterances) == (MINUTES * 60.0, turns)
    assert (finals, len(spans), ended) == (turns, turns, 1)
    first = (max(0, onset - 4_800), last + 3_840)
    assert spans == [((192_000 * i + first[0]) / 16_000, (192_000 * i + first[1]) / 16_000) for i in range(turns)]
    assert held < 16_000 * 7
    assert ring.dropped == 0
    assert ring.capacity == 50 * 16_000
    assert ring._data.nbytes < 4 * 16_000 * 10
    assert max(flat) - flat[0] < 50_000 + 200 * turns  # memory of the test itself


def test_an_endless_utterance_is_cut_and_its_memory_freed():
    """Ten minutes of noise during which the gate never closes."""
    session = Session(VOCABULARY, SessionConfig(max_utterance_ms=5_000), vad=LoudVad(), normalized=False)
    encoder = FakeEncoder(context=False)
    hum = sound("~" * 10)
    ends: list[float] = []
    for _ in range(600):
        session.receive_audio(hum, 0.0)
        for request in session.requests():
            session.receive_answer(request.id, encoder.rows(request.samples), 0.0)
        ends += [event.end for event in session.events() if isinstance(event, SpeechEnded)]
        ring = session._front.ring
        assert ring.end - ring.start < 16_000 * 8
    assert len(ends) > 100
    assert max(b - a for a, b in pairwise(ends)) <= 5.0
