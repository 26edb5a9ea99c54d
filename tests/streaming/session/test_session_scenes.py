"""Single scenes of sessions, and sessions with the real detectors."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from xlsr_live.streaming.audio.normalize import Moments, RunningNormalizer
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.errors import AudioError, BacklogFull, ConfigError, SessionClosed
from xlsr_live.streaming.protocol.events import Error, Final, Partial, SessionEnded, SpeechEnded
from xlsr_live.streaming.requests import Request
from xlsr_live.streaming.session.session import Session

from tests.support.driving import (
    FLUSH,
    Driver,
    check_coverage,
    gate_spans,
    lines,
    pieces,
    run,
    utterances,
)
from tests.support.fakes import VOCABULARY, FakeEncoder, LoudVad, sound
from tests.support.strategies import large

# ── scenes ──


def test_an_utterance_is_scaled_by_the_statistics_of_the_one_before():
    audio = np.concatenate([sound("..HG HG " + "." * 10), sound("AB ", letter=20) / 4, sound("." * 10)])
    session = Session(VOCABULARY, SessionConfig(hop_ms=200), vad=LoudVad(), normalized=True)
    encoder = FakeEncoder(normalized=True)
    session.receive_audio(audio, 0.0)
    session.receive_eof(0.0)
    seen: list[Request] = []
    while requests := session.requests():
        seen += requests
        for request in requests:
            session.receive_answer(request.id, encoder.rows(request.samples), 0.0)
    first, second = utterances(session.events())
    step = next(request for request in seen if request.utterance == 1 and request.kind == "live")
    scale = RunningNormalizer(Moments().plus(audio[first.start : first.end]))
    scale.extend(audio[second.start : second.start + len(step.samples)])
    assert np.array_equal(step.samples, scale.read(0, len(step.samples)))


def test_an_utterance_without_words_ends_without_a_final():
    events = run([sound("..~~~~~~~~..........AB ..........")])
    first, second = utterances(events)
    assert (first.final, first.reason) == (None, "silence")
    assert second.final is not None
    assert second.final.text == "AB"


def test_noise_that_holds_the_gate_open_ends_the_utterance_by_trailing_blanks():
    events = run([sound("..AB CD " + "~" * 25 + "EF " + "." * 10)])
    first, second = utterances(events)
    assert [utterance.final and utterance.final.text for utterance in (first, second)] == ["AB CD", "EF"]
    assert [first.reason, second.reason] == ["blanks", "silence"]
    assert first.end == second.start
    assert first.final is not None
    last = round(first.final.words[-1].end * 16_000)
    assert first.end - last == 240 * 16  # post-roll


@pytest.mark.parametrize("mode", ["cached", "window", "offline"])
def test_long_speech_is_cut_at_its_longest_pause(mode):
    speech = "ABCD " * 3 + "~~~" + "EFGH " * 5
    config = SessionConfig(max_utterance_ms=3_000, mode=mode, trailing_blank_ms=0, pre_roll_ms=0)
    first, second, *_ = utterances(run([sound(speech + "." * 10)], config))
    assert first.reason == "length"
    assert first.final is not None
    assert second.final is not None
    assert first.final.text == "ABCD ABCD ABCD"
    assert second.final.text.startswith("EFGH EFGH")


def test_speech_without_any_pause_is_cut_and_nothing_is_lost():
    audio = np.concatenate([np.repeat(np.float32([3, 4] * 200) / 16, 960), sound("." * 10)])
    config = SessionConfig(max_utterance_ms=2_000)
    found = utterances(run([audio], config))
    assert {each.reason for each in found[:-1]} == {"length"}
    assert "".join(each.final.text for each in found if each.final).count("A") >= 190
    check_coverage(found, gate_spans(audio, config, LoudVad()))


@pytest.mark.parametrize("lookahead", [1_000, 2_000, 5_000])
def test_a_lookahead_longer_than_an_utterance_is_refused_or_harmless(lookahead):
    try:
        config = SessionConfig(max_utterance_ms=2_000, lookahead_ms=lookahead)
    except ConfigError:
        return
    audio = sound("~" * 60 + "." * 10)
    found = utterances(run([audio], config))
    check_coverage(found, gate_spans(audio, config, LoudVad()))


def test_words_at_the_very_end_of_the_input_are_in_a_final():
    (utterance,) = utterances(run([sound("..AB CD")]))
    assert utterance.final is not None
    assert (utterance.final.text, utterance.reason) == ("AB CD", "end")


def test_without_a_gate_the_client_marks_utterances():
    events = run([sound("AB "), FLUSH, FLUSH, sound("CD "), FLUSH], vad=None)
    assert [(h.final and h.final.text, h.reason) for h in utterances(events)] == [("AB", "flush"), ("CD", "flush")]


MODES = [
    {},
    {"mode": "cached"},
    {"mode": "offline"},
    {"partials": False},
    {"finals": "append"},
    {"finals": "append", "mode": "cached", "hop_ms": 200},
    {"trailing_blank_ms": 200, "post_roll_ms": 0},
]


@pytest.mark.parametrize("how", MODES, ids=str)
@pytest.mark.parametrize("pause", [1, 2, 5])
def test_without_a_gate_a_pause_ends_no_utterance(how: dict[str, Any], pause: int):
    silence = "." * 10 * pause
    turn = sound("AB CD " + silence + "EF " + silence)
    events = run([turn, FLUSH, turn, FLUSH], SessionConfig(vad="none", **how), vad="real")
    found = utterances(events)
    assert [(each.final and each.final.text, each.reason) for each in found] == [("AB CD EF", "flush")] * 2
    assert [(each.start, each.end) for each in found] == [(0, len(turn)), (len(turn), 2 * len(turn))]


@pytest.mark.parametrize("how", MODES, ids=str)
@pytest.mark.parametrize("pause", [1, 2, 5])
def test_without_a_gate_a_pause_joins_no_words_that_lack_a_boundary(how: dict[str, Any], pause: int):
    events = run([sound("AB" + "." * 10 * pause + "CD "), FLUSH], SessionConfig(vad="none", **how), vad="real")
    (utterance,) = utterances(events)
    assert utterance.final is not None
    assert utterance.final.text == "AB CD"


@pytest.mark.parametrize("packet", [160, 1_600, 32_000])
@pytest.mark.parametrize("pause", [1, 2, 5])
def test_without_a_gate_silence_before_the_flush_or_the_end_adds_no_utterance(pause: int, packet: int):
    turn = sound("AB " + "." * 10 * pause)
    packets = pieces(turn, [packet] * (len(turn) // packet))
    config = SessionConfig(vad="none")
    for last, reason in ((FLUSH, "flush"), (np.empty(0, np.float32), "end")):
        (utterance,) = utterances(run([*packets, last], config, vad="real", random=Random(pause)))
        assert (utterance.final and utterance.final.text, utterance.reason) == ("AB", reason)


def test_without_a_gate_only_the_length_limit_cuts():
    audio = sound("AB CD " + "." * 12 + "EF " + "." * 80)
    config = SessionConfig(vad="none", max_utterance_ms=3_000)
    found = utterances(run([audio, FLUSH], config, vad="real"))
    assert {each.reason for each in found[:-1]} == {"length"}
    assert found[-1].reason == "flush"
    assert " ".join(each.final.text for each in found if each.final) == "AB CD EF"
    assert all(each.end - each.start <= 3 * 16_000 for each in found)
    check_coverage(found, [range(len(audio))])


def test_a_flush_finishes_speech_without_waiting_for_silence():
    session = Session(VOCABULARY, vad=LoudVad(), normalized=False)
    driver = Driver(session, FakeEncoder())
    session.receive_audio(sound("..AB CD "), 0.0)
    session.receive_flush(0.0)
    driver.collect()
    while driver.waiting:
        driver.answer()
    assert isinstance(driver.events[-1], SpeechEnded)
    assert driver.events[-1].reason == "flush"
    assert isinstance(driver.events[-2], Final)


def test_partials_off_gives_the_same_utterances_and_no_partial():
    audio = sound("..AB CD " + "." * 10 + "EF " + "." * 10)
    on, off = (run([audio], SessionConfig(partials=partials)) for partials in (True, False))
    assert any(isinstance(event, Partial) for event in on)
    assert [event for event in on if not isinstance(event, Partial)] == off


def test_offline_mode_shows_no_partials():
    for finals in ("full", "append"):
        events = run([sound("..AB CD " + "." * 10)], SessionConfig(mode="offline", finals=finals))
        assert not any(isinstance(event, Partial) for event in events)
        assert any(isinstance(event, Final) for event in events)


def test_a_partial_has_a_lag_and_the_end_of_its_audio():
    session = Session(VOCABULARY, SessionConfig(hop_ms=200, hold_back_ms=0), vad=None, normalized=False)
    encoder = FakeEncoder()
    audio = sound("AB CD EF ")
    for index, packet in enumerate(pieces(audio, [1_600] * 4)):
        session.receive_audio(packet, 10.0 + index)
    first, second, *_ = session.requests()  # 3,280 and 6,480 samples: complete with packets 2 and 4
    assert [first.deadline, second.deadline] == [12.2, 14.2]
    session.receive_answer(first.id, encoder.rows(first.samples), 15.5)
    session.receive_answer(second.id, encoder.rows(second.samples), 15.5)
    partials = [event for event in session.events() if isinstance(event, Partial)]
    assert [(partial.audio_s, partial.lag_ms) for partial in partials] == [(0.205, 3_500.0), (0.405, 1_500.0)]


def test_the_second_pass_is_requested_late_in_the_hangover():
    session = Session(VOCABULARY, vad=LoudVad(), normalized=False)
    session.receive_audio(sound("..AB CD " + "."), 0.0)
    assert not [request for request in session.requests() if request.kind == "final"]
    session.receive_audio(sound("...."), 1.0)  # 500 of 600 ms
    (final,) = [request for request in session.requests() if request.kind == "final"]
    assert final.deadline == 1.2  # at the latest at the end of the hangover
    session.receive_audio(sound("A" + "." * 5), 2.0)
    (newer,) = [request for request in session.requests() if request.kind == "final"]
    assert not session.wants(final.id)
    assert session.wants(newer.id)
    assert len(newer.samples) > len(final.samples)


def test_answers_to_withdrawn_and_unknown_requests_are_ignored():
    session = Session(VOCABULARY, vad=LoudVad(), normalized=False)
    session.receive_audio(sound("..AB CD ..."), 0.0)
    session.receive_eof(0.0)
    session.events()
    session.receive_answer(999, np.zeros((3, 10), np.float32), 0.0)
    session.receive_failure(998, "nothing", 0.0)
    assert session.events() == []


@pytest.mark.parametrize("count", [1, 3, 399])
def test_audio_too_short_for_one_frame_is_an_error_and_no_utterance(count):
    events = run([np.full(count, 0.5, np.float32)], vad=None)
    assert [type(event).__name__ for event in events] == ["SessionStarted", "Error", "SessionEnded"]
    assert isinstance(events[1], Error)
    assert events[1].code == "audio_too_short"


def test_a_session_without_audio_is_no_error():
    events = run([])
    assert [type(event).__name__ for event in events] == ["SessionStarted", "SessionEnded"]


def test_audio_that_ends_inside_a_sample_is_an_error():
    events = run([b"\0" * 32_001])
    assert [event.code for event in events if isinstance(event, Error)] == ["truncated_sample"]
    assert isinstance(events[-1], SessionEnded)
    assert events[-1].audio_s == 1.0


def test_a_second_end_of_input_does_nothing_and_audio_after_it_is_refused():
    session = Session(VOCABULARY, vad=None)
    session.receive_eof(0.0)
    session.receive_eof(0.0)
    assert [type(event).__name__ for event in session.events()] == ["SessionStarted", "SessionEnded"]
    with pytest.raises(SessionClosed):
        session.receive_audio(b"\0\0", 0.0)
    with pytest.raises(SessionClosed):
        session.receive_flush(0.0)


def test_a_packet_that_is_not_finite_is_refused_and_changes_no_event():
    audio = sound("..AB CD " + "." * 10)
    session = Session(VOCABULARY, vad=LoudVad(), normalized=False, name="s")
    driver = Driver(session, FakeEncoder())
    session.receive_audio(audio[:7_000], 0.0)
    with pytest.raises(AudioError):
        session.receive_audio(np.array([0.1, np.nan], np.float32), 0.0)
    assert lines(driver.run([audio[7_000:]])) == lines(run([audio]))


def test_with_a_slow_encoder_a_session_refuses_audio_and_loses_none():
    audio = sound("AB CD " * 70)
    config = SessionConfig(max_utterance_ms=2_000)
    session = Session(VOCABULARY, config, vad=LoudVad(), normalized=False, name="s")
    packets = pieces(audio, [16_000] * 100)
    fed = 0
    while session.can_take(packets[fed]):
        session.receive_audio(packets[fed], 0.0)
        fed += 1
    assert 25 <= fed < len(packets)
    with pytest.raises(BacklogFull):
        session.receive_audio(packets[fed], 0.0)
    driver = Driver(session, FakeEncoder())
    driver.collect()
    assert lines(driver.run(packets[fed:])) == lines(run(packets, config))


# ── with the real detectors ──


@pytest.mark.parametrize("name", ["cascade", "webrtc", "silero", "energy"])
def test_packets_change_no_event_with_a_real_detector(clip, name):
    pause = np.zeros(16_000, np.int16)
    parts = [clip("clock")[:32_000], pause, clip("george"), pause, clip("nicolas")[:24_001]]
    audio = np.concatenate(parts).astype(np.float32) / 32_768
    config = SessionConfig(vad=name, max_utterance_ms=3_000, hop_ms=200, left_context_ms=1_000)
    whole = run(large(audio), config, vad="real", encoder=FakeEncoder(normalized=True))
    assert len(lines(whole).split("speech_started")) >= 2
    for seed in range(2):
        random = Random(seed)
        sizes = [random.choice([1, 160, 479, 481, 1_600, 20_000]) for _ in range(500)]
        split = run(pieces(audio, sizes), config, vad="real", encoder=FakeEncoder(normalized=True), random=random)
        assert lines(split) == lines(whole)
