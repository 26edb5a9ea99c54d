"""Properties of every session, for any packets, any order of answers and any settings."""

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
from xlsr_live.streaming.config import AudioFormat, SessionConfig
from xlsr_live.streaming.errors import ConfigError, SessionClosed
from xlsr_live.streaming.protocol.events import Error
from xlsr_live.streaming.requests import CachedFeatures
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

# ── strategies for audio and settings ──


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
def test_packets_change_no_event_with_flushes_in_mid_stream(parts, config, vad, sizes, seed):
    def script(cut):
        return [packet for part in parts for packet in [*cut(part), FLUSH]]

    whole = run(script(large), config, vad=detector(vad))
    split = run(script(lambda part: pieces(part, sizes * 8)), config, vad=detector(vad), random=Random(seed))
    assert lines(split) == lines(whole)
    edges = np.cumsum([len(part) for part in parts]).tolist()
    found = utterances(whole)
    check_coverage(found, gate_spans(np.concatenate(parts), config, detector(vad), edges))
    for edge in edges:
        assert not any(each.start < edge < each.end for each in found), "an utterance goes on over a flush"


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
    """Encodes with libsndfile, which is independent of this project."""
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
    for utterance in utterances(events):
        assert utterance.final == expected_final(utterance, audio, encoder)


@given(sounds, configs(finals="append"), vads, seeds)
@settings(max_examples=100, deadline=None)
def test_an_appending_final_keeps_every_committed_word(audio, config, vad, seed):
    for utterance in utterances(run(large(audio), config, vad=detector(vad), random=Random(seed))):
        committed = [word for partial in utterance.partials[-1:] for word in partial.words if word.committed]
        if utterance.final is None:
            assert not committed
        else:
            assert list(utterance.final.words[: len(committed)]) == committed


@given(sounds, configs(finals="append", trailing_blank_ms=0, max_utterance_ms=20_000), seeds)
@settings(max_examples=60, deadline=None)
def test_an_appending_final_equals_one_pass_if_context_does_not_matter(audio, config, seed):
    encoder = FakeEncoder(context=False)
    for utterance in utterances(run(large(audio), config, encoder=encoder, random=Random(seed))):
        if utterance.reason != "length":
            assert utterance.final == expected_final(utterance, audio, encoder)


@given(sounds, configs(), vads, packet_sizes, seeds, st.sampled_from([0.1, 0.5, 1.0]))
@settings(max_examples=100, deadline=None)
def test_encoder_failures_lose_no_utterance_and_break_no_rule(audio, config, vad, sizes, seed, often):
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
def test_a_successful_second_pass_makes_the_final_despite_earlier_failures(audio, config, vad, seed, often):
    random, encoder = Random(seed), FakeEncoder()
    last: dict[int, tuple[int, bool]] = {}  # of each utterance, the last second pass and whether it failed

    def fails(request):
        failed = random.random() < often
        if request.kind == "final":
            last[request.utterance] = max(last.get(request.utterance, (0, False)), (request.id, failed))
        return failed

    events = run(large(audio), config, vad=detector(vad), encoder=encoder, random=random, fails=fails)
    for utterance in utterances(events):
        if not last[utterance.index][1]:
            assert utterance.final == expected_final(utterance, audio, encoder)


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
def test_with_equal_rows_cached_mode_has_the_events_of_window_mode(audio, config, vad, sizes, seed, normalized):
    def events(mode):
        changed = msgspec.structs.replace(config, mode=mode)
        encoder = FakeEncoder(normalized=normalized)
        return run(pieces(audio, sizes * 8), changed, vad=detector(vad), encoder=encoder, random=Random(seed))

    cached, window = events("cached"), events("window")
    assert (cached[0].mode, window[0].mode) == ("cached", "window")
    assert lines(cached[1:]) == lines(window[1:])


@pytest.mark.parametrize("normalized", [False, True])
def test_a_cached_step_has_only_new_samples_and_a_second_pass_the_whole_utterance(normalized: bool):
    """The final may reuse the features of the steps, unless the whole utterance is scaled differently."""
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


def test_a_session_uses_the_best_mode_of_the_checkpoint():
    def mode(requested, modes):
        (started,) = Session(VOCABULARY, SessionConfig(mode=requested), vad=None, modes=modes).events()
        return started.mode

    every, few = ("cached", "window", "offline"), ("window", "offline")
    assert [mode(None, every), mode(None, few)] == ["cached", "window"]
    assert [mode(requested, every) for requested in every] == list(every)
    with pytest.raises(ConfigError, match="'cached' does not work with this checkpoint; it allows window, offline"):
        mode("cached", few)


def test_the_lookahead_is_that_of_the_settings_or_the_model():
    def lookahead(**settings):
        config = SessionConfig(**settings)
        return Session(VOCABULARY, config, vad=None, lookahead_ms=240).config.lookahead_ms

    assert (lookahead(), lookahead(lookahead_ms=480), lookahead(lookahead_ms=0)) == (240, 480, 0)


def test_an_abandoned_session_releases_the_cache_and_has_no_more_jobs():
    session = Session(VOCABULARY, vad=None, normalized=False, modes=("cached", "window"))
    session.receive_audio(sound("ABC DEF " * 4), 0.0)
    (first, *_) = session.requests()
    assert session.released() == []
    session.abandon()
    assert session.released() == [first.reuse.cache]
    assert session.released() == []
    session.receive_answer(first.id, np.zeros((24, 10), np.float32), 0.0)
    assert session.ended
    assert session.requests() == []
    with pytest.raises(SessionClosed):
        session.receive_audio(b"\0\0", 0.0)


def test_a_failed_second_pass_still_gives_every_word():
    audio = sound("...ABC DEF GH A B C D E F" + "." * 8)
    for seed in range(10):
        events = run([audio], random=Random(seed), fails=lambda request: request.kind == "final")
        (utterance,) = utterances(events)
        assert utterance.final is not None
        assert utterance.final.text == "ABC DEF GH A B C D E F"


def test_a_second_pass_that_failed_in_a_pause_runs_again_for_the_whole_utterance():
    parts = [sound("..AB CD ....."), sound("EF ")]
    session = Session(VOCABULARY, vad=LoudVad(), normalized=False)
    encoder = FakeEncoder()
    driver = Driver(session, encoder, fails=lambda request: request.kind == "final" and len(request.samples) < 20_000)
    events = driver.run(parts)
    assert [event.code for event in events if isinstance(event, Error)] == ["encoder_failed"]
    (utterance,) = utterances(events)
    assert utterance.final is not None
    assert utterance.final == expected_final(utterance, np.concatenate(parts), encoder)
