"""The segmenter: the ring keeps only the samples of open spans and possible onsets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.audio.pauses import PauseEvidence
from xlsr_live.streaming.audio.segmenter import Segmenter
from xlsr_live.streaming.audio.vad import FRAME
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.errors import BacklogFull
from xlsr_live.streaming.frames import seconds

from tests.support.fakes import LoudVad, sound


class Listening(LoudVad):
    """Records its frames."""

    def __init__(self) -> None:
        self.frames: list[np.ndarray] = []

    def __call__(self, frames: np.ndarray) -> list[float]:
        self.frames += list(frames)
        return super().__call__(frames)


def found(front: Segmenter) -> list[tuple[int, int | None, str]]:
    return [(span.start, span.end, span.reason) for span in front.spans]


@given(st.lists(st.integers(0, 3_000), max_size=40))
@settings(max_examples=60, deadline=None)
def test_the_detector_gets_every_sample_once_for_any_packets(sizes: list[int]):
    audio = np.arange(40_000, dtype=np.float32) / 40_000
    vad = Listening()
    front = Segmenter(SessionConfig(), vad)
    at = 0
    for size in [*sizes, 40_000]:
        front.receive(audio[at : at + size])
        at += size
    received = np.concatenate(vad.frames)
    assert {len(frame) for frame in vad.frames} == {FRAME}
    assert np.array_equal(received, audio[: 40_000 // FRAME * FRAME])


def test_spans_have_a_reason_and_start_in_kept_audio():
    audio = sound("." * 20 + "ABC" + "." * 20 + "ABC")
    front = Segmenter(SessionConfig(), LoudVad())
    for at in range(0, len(audio), 160):
        front.receive(audio[at : at + 160])
        front.release()
        assert not front.spans or front.ring.start <= front.spans[0].start
    front.finish("end")
    first, second = found(front)
    assert (first[0], first[2], second[2]) == (32_000 - 4_800 - 320, "silence", "end")  # onset on the 30 ms grid
    assert second[1] == len(audio)
    assert front.ring.read(first[0], len(audio)).any()
    assert front.ring.dropped == 0


def test_silence_is_released_except_for_the_reach_of_an_onset():
    front = Segmenter(SessionConfig(), LoudVad())
    for _ in range(200):
        front.receive(np.zeros(1_600, np.float32))
        front.release()
    assert front.ring.end - front.ring.start < 16_000 * 2.5
    assert front.ring.dropped == 0


def test_without_a_detector_a_span_lasts_from_flush_to_flush():
    front = Segmenter(SessionConfig(), None)
    front.finish("flush")
    assert found(front) == []
    front.receive(np.zeros(100, np.float32))
    assert found(front) == [(0, None, "silence")]
    assert front.known(front.spans[0]) == 100
    assert front.likely_end(front.spans[0]) is None
    front.receive(np.zeros(100, np.float32))
    front.finish("flush")
    front.receive(np.zeros(0, np.float32))
    front.receive(np.zeros(10, np.float32))
    assert found(front) == [(0, 200, "flush"), (200, None, "silence")]


def test_without_a_detector_only_the_open_span_is_kept():
    front = Segmenter(SessionConfig(), None)
    for second in range(100):
        front.receive(np.zeros(16_000, np.float32))
        front.spans[0].start = 16_000 * second
        front.release()
    assert front.ring.end - front.ring.start == 16_000


def test_speech_that_has_its_final_makes_no_span():
    config = SessionConfig(min_speech_ms=90, hangover_ms=300, pre_roll_ms=0, post_roll_ms=0)
    speech, silence = np.ones(4_800, np.float32), np.zeros(9_600, np.float32)
    audio = np.concatenate((speech, silence, speech, speech, silence))
    whole = [(480_000, 484_800), (494_400, 504_000)]
    for final_end, spans in [(480_000, whole), (484_800, whole[1:]), (499_200, [(499_200, 504_000)]), (504_000, [])]:
        front = Segmenter(config, LoudVad(), start=480_000, final_end=final_end)
        front.receive(audio)
        assert [(start, end) for start, end, _ in found(front)] == spans
        assert (front.loudness is None) == (final_end == 480_000)


def test_seconds_of_events_name_a_final_end_between_their_milliseconds():
    config = SessionConfig(endpointing="adaptive", min_speech_ms=90, least_hangover_ms=300, most_hangover_ms=900)
    speech = np.ones(9_600, np.float32)
    audio = np.concatenate((speech, np.zeros(13_000, np.float32), speech, np.zeros(32_000, np.float32)))

    def spans(final_end: int) -> list[tuple[int, int | None, str]]:
        front = Segmenter(config, LoudVad(), start=1_001, final_end=final_end)
        front.receive(audio)
        while front.paused:
            front.decide(PauseEvidence())
        return found(front)

    first, second = spans(1_001)
    assert first[1] is not None
    assert first[1] % 16 != 0
    assert spans(round(seconds(first[1]) * 16_000)) == [second]


def test_after_a_flush_the_detector_starts_with_the_next_sample():
    vad = Listening()
    front = Segmenter(SessionConfig(), vad)
    audio = np.arange(2_000, dtype=np.float32)
    front.receive(audio[:700])
    front.finish("flush")
    front.receive(audio[700:])
    assert [frame[0] for frame in vad.frames] == [0, 700, 1_180]


def test_audio_without_room_is_refused_whole():
    front = Segmenter(SessionConfig(max_utterance_ms=2_000), None)
    room = front.room
    assert room == 32 * 16_000
    front.receive(np.ones(room - 10, np.float32))
    with pytest.raises(BacklogFull, match=r"32\.0 s of audio"):
        front.receive(np.ones(11, np.float32))
    assert (front.position, front.room) == (room - 10, 10)
    front.receive(np.ones(10, np.float32))
    assert front.ring.dropped == 0
