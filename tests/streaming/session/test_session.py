"""What must hold of every session, whatever the packets, the order of the answers and the settings."""

from __future__ import annotations

import io
from itertools import pairwise
from random import Random

import msgspec
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.audio.normalize import Moments, RunningNormalizer
from xlsr_live.streaming.config import AudioFormat, SessionConfig
from xlsr_live.streaming.errors import AudioError, BacklogFull, ConfigError, SessionClosed
from xlsr_live.streaming.protocol.events import Error, Final, Partial, SessionEnded, SpeechEnded
from xlsr_live.streaming.requests import CachedFeatures, Request
from xlsr_live.streaming.session.session import Session

from tests.support.driving import (
    FLUSH,
    Driver,
    Float32,
    check_coverage,
    expected_final,
    gate_spans,
    lines,
    pieces,
    run,
    utterances,
)
from tests.support.fakes import VOCABULARY, FakeEncoder, LoudVad, sound
from tests.support.strategies import configs, large, packet_sizes, seeds, sounds

# ── what is said, and how it is set ──


vads = st.sampled_from(["loud", "loud", None])


def detector(name: str | None) -> LoudVad | None:
    return LoudVad() if name == "loud" else None


# ── the properties ──


@given(sounds, configs(), vads, packet_sizes, seeds, st.booleans())
@settings(max_examples=120, deadline=None)
def test_packets_and_the_order_of_answers_change_no_event(audio, config, vad, sizes, seed, normalized):
    encoder = FakeEncoder(normalized=normalized)
    whole = run(large(audio), config, vad=detector(vad), encoder=encoder)
    split = run(pieces(audio, sizes * 8), config, vad=detector(vad), encoder=encoder, random=Random(seed))
    assert lines(split) == lines(whole)


@given(st.lists(sounds, min_size=2, max_size=4), configs(), vads, packet_sizes, seeds)
@settings(max_examples=60, deadline=None)
def test_flushes_in_mid_stream_give_the_same_events_for_any_packets(parts, config, vad, sizes, seed):
    def script(cut):
        return [packet for part in parts for packet in [*cut(part), FLUSH]]

    whole = run(script(large), config, vad=detector(vad))
    split = run(script(lambda part: pieces(part, sizes * 8)), config, vad=detector(vad), random=Random(seed))
    assert lines(split) == lines(whole)
    edges = np.cumsum([len(part) for part in parts]).tolist()
    heard = utterances(whole)
    check_coverage(heard, gate_spans(np.concatenate(parts), config, detector(vad), edges))
    for edge in edges:
        assert not any(each.start < edge < each.end for each in heard), "an utterance goes on over a flush"


@given(
    sounds,
    st.sampled_from(["pcm_s16le", "pcm_f32le", "mulaw", "alaw"]),
    st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000]),
    st.sampled_from([1, 2, 3]),
    st.lists(st.sampled_from([1, 2, 3, 5, 7, 11, 640, 1_919, 9_001]), max_size=40),
    seeds,
)
@settings(max_examples=60, deadline=None)
def test_bytes_split_anywhere_change_no_event(audio, encoding, rate, channels, sizes, seed):
    config = SessionConfig(max_utterance_ms=2_000, hop_ms=200)
    form = AudioFormat(encoding=encoding, sample_rate=rate, channels=channels)
    at = np.arange(len(audio) * rate // 16_000) * 16_000 // rate
    data = encoded(np.repeat(audio[at, None], channels, axis=1), encoding)
    whole = run(pieces(data, [100_000] * 1_000), config, audio=form)
    split = run(pieces(data, sizes * 50), config, audio=form, random=Random(seed))
    assert lines(split) == lines(whole)


def encoded(samples: Float32, encoding: str) -> bytes:
    """By libsndfile, which knows nothing of this project."""
    subtype = {"pcm_s16le": "PCM_16", "pcm_f32le": "FLOAT", "mulaw": "ULAW", "alaw": "ALAW"}[encoding]
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="RAW", subtype=subtype, endian="LITTLE")
    return file.getvalue()


@given(sounds, configs(), vads, packet_sizes, seeds)
@settings(max_examples=100, deadline=None)
def test_every_sample_of_a_gate_span_belongs_to_exactly_one_utterance(audio, config, vad, sizes, seed):
    events = run(pieces(audio, sizes * 8), config, vad=detector(vad), random=Random(seed))
    check_coverage(utterances(events), gate_spans(audio, config, detector(vad)))


@given(sounds, configs(finals="full"), vads, seeds, st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_full_final_is_one_pass_over_the_whole_utterance(audio, config, vad, seed, normalized):
    encoder = FakeEncoder(normalized=normalized)
    events = run(large(audio), config, vad=detector(vad), encoder=encoder, random=Random(seed))
    for heard in utterances(events):
        assert heard.final == expected_final(heard, audio, encoder)


@given(sounds, configs(finals="append"), vads, seeds)
@settings(max_examples=100, deadline=None)
def test_an_appending_final_keeps_every_committed_word(audio, config, vad, seed):
    for heard in utterances(run(large(audio), config, vad=detector(vad), random=Random(seed))):
        committed = [word for partial in heard.partials[-1:] for word in partial.words if word.committed]
        if heard.final is None:
            assert not committed
        else:
            assert list(heard.final.words[: len(committed)]) == committed


@given(sounds, configs(finals="append", trailing_blank_ms=0, max_utterance_ms=20_000), seeds)
@settings(max_examples=60, deadline=None)
def test_an_appending_final_says_all_that_one_pass_says_where_context_does_not_matter(audio, config, seed):
    encoder = FakeEncoder(context=False)
    for heard in utterances(run(large(audio), config, encoder=encoder, random=Random(seed))):
        if heard.reason != "length":
            assert heard.final == expected_final(heard, audio, encoder)


@given(sounds, configs(), vads, packet_sizes, seeds, st.sampled_from([0.1, 0.5, 1.0]))
@settings(max_examples=100, deadline=None)
def test_an_encoder_that_fails_loses_no_utterance_and_breaks_no_rule(audio, config, vad, sizes, seed, often):
    random = Random(seed)
    events = run(
        pieces(audio, sizes * 8),
        config,
        vad=detector(vad),
        random=random,
        fails=lambda request: random.random() < often,
    )
    check_coverage(utterances(events), gate_spans(audio, config, detector(vad)))
    assert all(event.code == "encoder_failed" for event in events if isinstance(event, Error))


@given(sounds, configs(finals="full"), vads, seeds, st.sampled_from([0.2, 0.5]))
@settings(max_examples=60, deadline=None)
def test_a_second_pass_that_does_not_fail_makes_the_final_whatever_failed_before(audio, config, vad, seed, often):
    random, encoder = Random(seed), FakeEncoder()
    last: dict[int, tuple[int, bool]] = {}  # of each utterance, the last second pass and whether it failed

    def fails(request):
        failed = random.random() < often
        if request.kind == "final":
            last[request.utterance] = max(last.get(request.utterance, (0, False)), (request.id, failed))
        return failed

    events = run(large(audio), config, vad=detector(vad), encoder=encoder, random=random, fails=fails)
    for heard in utterances(events):
        if not last[heard.index][1]:
            assert heard.final == expected_final(heard, audio, encoder)


@given(sounds, configs(finals="full"), vads, packet_sizes, st.tuples(seeds, seeds))
@settings(max_examples=60, deadline=None)
def test_the_final_of_a_failed_second_pass_does_not_depend_on_the_order_of_answers(audio, config, vad, sizes, pair):
    def finals(seed):
        return [
            event
            for event in run(
                pieces(audio, sizes * 8),
                config,
                vad=detector(vad),
                random=Random(seed),
                fails=lambda request: request.kind == "final",
            )
            if not isinstance(event, Error)
        ]

    assert lines(finals(pair[0])) == lines(finals(pair[1]))


@given(sounds, configs(mode="cached"), vads, packet_sizes, seeds, st.booleans())
@settings(max_examples=60, deadline=None)
def test_where_reuse_changes_no_row_cached_mode_tells_what_window_mode_tells(
    audio, config, vad, sizes, seed, normalized
):
    def events(mode):
        changed = msgspec.structs.replace(config, mode=mode)
        encoder = FakeEncoder(normalized=normalized)
        return run(pieces(audio, sizes * 8), changed, vad=detector(vad), encoder=encoder, random=Random(seed))

    cached, window = events("cached"), events("window")
    assert (cached[0].mode, window[0].mode) == ("cached", "window")
    assert lines(cached[1:]) == lines(window[1:])


@pytest.mark.parametrize("normalized", [False, True])
def test_a_cached_step_brings_only_new_samples_and_a_final_the_whole_utterance(normalized: bool):
    """The final may use the features that the steps made, unless the whole utterance is scaled anew."""
    session = Session(VOCABULARY, vad=None, normalized=normalized, modes=("cached", "window"))
    audio = sound("ABC DEF " * 4)
    session.receive_audio(audio, 0.0)
    session.receive_eof(0.0)
    *steps, final = session.requests()
    hop, overlap = 480 * 16, 80
    assert [len(step.samples) for step in steps] == [hop + overlap] * len(steps)
    assert len(steps) >= 3
    for before, after in pairwise(steps):
        assert normalized or np.array_equal(before.samples[-overlap:], after.samples[:overlap])
        assert before.reuse.cache is after.reuse.cache
    recall = None if normalized else CachedFeatures(steps[0].reuse.cache, steps[-1].window.newest)
    assert (final.reuse, len(final.samples)) == (recall, len(audio))


def test_a_session_has_the_best_mode_that_the_checkpoint_allows_and_no_other():
    def mode(asked, modes):
        (started,) = Session(VOCABULARY, SessionConfig(mode=asked), vad=None, modes=modes).events()
        return started.mode

    every, few = ("cached", "window", "offline"), ("window", "offline")
    assert [mode(None, every), mode(None, few)] == ["cached", "window"]
    assert [mode(asked, every) for asked in every] == list(every)
    with pytest.raises(ConfigError, match="'cached' does not work with this checkpoint; it allows window, offline"):
        mode("cached", few)


def test_a_session_that_is_abandoned_releases_what_the_encoder_remembers_and_asks_for_nothing():
    session = Session(VOCABULARY, vad=None, normalized=False, modes=("cached", "window"))
    session.receive_audio(sound("ABC DEF " * 4), 0.0)
    (first, *_) = session.requests()
    assert session.released() == []
    session.abandon()
    assert session.released() == [first.reuse.cache]
    assert session.released() == []
    session.receive_logprobs(first.id, np.zeros((24, 10), np.float32), 0.0)
    assert session.ended
    assert session.requests() == []
    with pytest.raises(SessionClosed):
        session.receive_audio(b"\0\0", 0.0)


def test_a_failed_second_pass_still_gives_every_word():
    audio = sound("...ABC DEF GH A B C D E F" + "." * 8)
    for seed in range(10):
        events = run([audio], random=Random(seed), fails=lambda request: request.kind == "final")
        (heard,) = utterances(events)
        assert heard.final is not None
        assert heard.final.text == "ABC DEF GH A B C D E F"


def test_a_second_pass_that_failed_in_a_pause_is_asked_again_for_the_whole():
    said = [sound("..AB CD ....."), sound("EF ")]
    session = Session(VOCABULARY, vad=LoudVad(), normalized=False)
    encoder = FakeEncoder()
    driver = Driver(session, encoder, fails=lambda request: request.kind == "final" and len(request.samples) < 20_000)
    events = driver.run(said)
    assert [event.code for event in events if isinstance(event, Error)] == ["encoder_failed"]
    (heard,) = utterances(events)
    assert heard.final is not None
    assert heard.final == expected_final(heard, np.concatenate(said), encoder)


# ── scenes ──


def test_an_utterance_is_scaled_like_the_one_before_it():
    audio = np.concatenate([sound("..HG HG " + "." * 10), sound("AB ", letter=20) / 4, sound("." * 10)])
    session = Session(VOCABULARY, SessionConfig(hop_ms=200), vad=LoudVad(), normalized=True)
    encoder = FakeEncoder(normalized=True)
    session.receive_audio(audio, 0.0)
    session.receive_eof(0.0)
    seen: list[Request] = []
    while requests := session.requests():
        seen += requests
        for request in requests:
            session.receive_logprobs(request.id, encoder.rows(request.samples), 0.0)
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
    assert [heard.final and heard.final.text for heard in (first, second)] == ["AB CD", "EF"]
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
    heard = utterances(run([audio], config))
    assert {each.reason for each in heard[:-1]} == {"length"}
    assert "".join(each.final.text for each in heard if each.final).count("A") >= 190
    check_coverage(heard, gate_spans(audio, config, LoudVad()))


@pytest.mark.parametrize("lookahead", [1_000, 2_000, 5_000])
def test_a_lookahead_longer_than_an_utterance_is_refused_or_harmless(lookahead):
    try:
        config = SessionConfig(max_utterance_ms=2_000, lookahead_ms=lookahead)
    except ConfigError:
        return
    audio = sound("~" * 60 + "." * 10)
    heard = utterances(run([audio], config))
    check_coverage(heard, gate_spans(audio, config, LoudVad()))


def test_words_at_the_very_end_of_the_input_are_in_a_final():
    (heard,) = utterances(run([sound("..AB CD")]))
    assert heard.final is not None
    assert (heard.final.text, heard.reason) == ("AB CD", "end")


def test_without_a_gate_the_client_marks_utterances():
    events = run([sound("AB "), FLUSH, FLUSH, sound("CD "), FLUSH], vad=None)
    assert [(h.final and h.final.text, h.reason) for h in utterances(events)] == [("AB", "flush"), ("CD", "flush")]


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


def test_a_partial_tells_its_lag_and_how_far_it_heard():
    session = Session(VOCABULARY, SessionConfig(hop_ms=200, hold_back_ms=0), vad=None, normalized=False)
    encoder = FakeEncoder()
    audio = sound("AB CD EF ")
    for index, packet in enumerate(pieces(audio, [1_600] * 4)):
        session.receive_audio(packet, 10.0 + index)
    first, second, *_ = session.requests()  # 3,280 and 6,480 samples: there with packets 2 and 4
    assert [first.deadline, second.deadline] == [12.2, 14.2]
    session.receive_logprobs(first.id, encoder.rows(first.samples), 15.5)
    session.receive_logprobs(second.id, encoder.rows(second.samples), 15.5)
    partials = [event for event in session.events() if isinstance(event, Partial)]
    assert [(partial.audio_s, partial.lag_ms) for partial in partials] == [(0.205, 3_500.0), (0.405, 1_500.0)]


def test_the_second_pass_is_asked_for_late_in_the_hangover():
    session = Session(VOCABULARY, vad=LoudVad(), normalized=False)
    session.receive_audio(sound("..AB CD " + "."), 0.0)
    assert not [request for request in session.requests() if request.kind == "final"]
    session.receive_audio(sound("...."), 1.0)  # 500 of 600 ms
    (final,) = [request for request in session.requests() if request.kind == "final"]
    assert final.deadline == 1.2  # when the hangover is over at the latest
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
    session.receive_logprobs(999, np.zeros((3, 10), np.float32), 0.0)
    session.receive_failure(998, "nothing", 0.0)
    assert session.events() == []


@pytest.mark.parametrize("count", [1, 3, 399])
def test_audio_too_short_for_one_frame_is_an_error_and_no_utterance(count):
    events = run([np.full(count, 0.5, np.float32)], vad=None)
    assert [type(event).__name__ for event in events] == ["SessionStarted", "Error", "SessionEnded"]
    assert isinstance(events[1], Error)
    assert events[1].code == "audio_too_short"


def test_no_audio_at_all_is_no_error():
    events = run([])
    assert [type(event).__name__ for event in events] == ["SessionStarted", "SessionEnded"]


def test_audio_that_ends_on_half_a_sample_is_told():
    events = run([b"\0" * 32_001])
    assert [event.code for event in events if isinstance(event, Error)] == ["truncated_sample"]
    assert isinstance(events[-1], SessionEnded)
    assert events[-1].audio_s == 1.0


def test_the_end_of_input_may_be_told_twice_but_nothing_follows_it():
    session = Session(VOCABULARY, vad=None)
    session.receive_eof(0.0)
    session.receive_eof(0.0)
    assert [type(event).__name__ for event in session.events()] == ["SessionStarted", "SessionEnded"]
    with pytest.raises(SessionClosed):
        session.receive_audio(b"\0\0", 0.0)
    with pytest.raises(SessionClosed):
        session.receive_flush(0.0)


def test_a_packet_that_is_not_finite_is_refused_and_the_session_goes_on_as_if_it_had_not_come():
    audio = sound("..AB CD " + "." * 10)
    session = Session(VOCABULARY, vad=LoudVad(), normalized=False, name="s")
    driver = Driver(session, FakeEncoder())
    session.receive_audio(audio[:7_000], 0.0)
    with pytest.raises(AudioError):
        session.receive_audio(np.array([0.1, np.nan], np.float32), 0.0)
    assert lines(driver.run([audio[7_000:]])) == lines(run([audio]))


def test_a_session_whose_encoder_is_behind_refuses_audio_and_loses_none():
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
    heard = [clip("clock")[:32_000], pause, clip("george"), pause, clip("nicolas")[:24_001]]
    audio = np.concatenate(heard).astype(np.float32) / 32_768
    config = SessionConfig(vad=name, max_utterance_ms=3_000, hop_ms=200, left_context_ms=1_000)
    whole = run(large(audio), config, vad="real", encoder=FakeEncoder(normalized=True))
    assert len(lines(whole).split("speech_started")) >= 2
    for seed in range(2):
        random = Random(seed)
        sizes = [random.choice([1, 160, 479, 481, 1_600, 20_000]) for _ in range(500)]
        split = run(pieces(audio, sizes), config, vad="real", encoder=FakeEncoder(normalized=True), random=random)
        assert lines(split) == lines(whole)
