"""Adaptive endpointing: the same audio gives the same events, whenever the evidence on a pause arrives."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.audio.vad import FRAME
from xlsr_live.streaming.config import AudioFormat, Origin, SessionConfig
from xlsr_live.streaming.ctc.assets import Assets
from xlsr_live.streaming.ctc.lm import Weights
from xlsr_live.streaming.errors import ConfigError
from xlsr_live.streaming.frames import ms
from xlsr_live.streaming.overload import Level
from xlsr_live.streaming.protocol.events import Final, SpeechEnded
from xlsr_live.streaming.requests import Request
from xlsr_live.streaming.session.session import Session
from xlsr_live.streaming.session.utterance import CHECKED

from tests.streaming.test_overload import Strained, levels, unmarked
from tests.support.driving import (
    FLUSH,
    Driver,
    Float32,
    UtteranceEvents,
    expected_final,
    lines,
    pieces,
    run,
    timeless,
    utterances,
)
from tests.support.fakes import VOCABULARY, FakeEncoder, FakeLanguages, LoudVad, PolyglotEncoder, sound
from tests.support.moves import MovingClient, outcome, session
from tests.support.ngrams import language_model
from tests.support.strategies import configs, large, packet_sizes, seeds, sounds

LEAST, MOST = 240, 900
BOUNDS = st.sampled_from([(60, 60), (90, 330), (240, 900)])
GRAMMAR = "cab: cab\nface: face (what: ab | cc)\ndad: dad [bad]"


class SureEncoder(FakeEncoder):
    """Its tokens are nearly certain, so trailing blanks are evidence."""

    def rows(self, samples: Float32, language: str | None = None) -> Float32:
        logits = 8 * super().rows(samples)
        return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def adaptive(bounds: tuple[int, int] = (LEAST, MOST), **others: Any) -> dict[str, Any]:
    return {"endpointing": "adaptive", "least_hangover_ms": bounds[0], "most_hangover_ms": bounds[1], **others}


@st.composite
def settings_of(draw: st.DrawFn, **fixed: Any) -> SessionConfig:
    return draw(configs(**adaptive(draw(BOUNDS), **fixed)))


encoders = st.sampled_from([FakeEncoder, SureEncoder])


@given(sounds, settings_of(), encoders, packet_sizes, seeds)
@settings(max_examples=60, deadline=None)
def test_packets_and_the_order_of_answers_change_no_event(audio, config, encoder, sizes, seed):
    whole = run(large(audio), config, encoder=encoder())
    split = run(pieces(audio, sizes * 8), config, encoder=encoder(), random=Random(seed))
    assert lines(split) == lines(whole)


@given(st.lists(sounds, min_size=2, max_size=4), settings_of(), packet_sizes, seeds)
@settings(max_examples=30, deadline=None)
def test_nor_do_they_with_flushes_in_mid_stream(parts, config, sizes, seed):
    def script(cut):
        return [packet for part in parts for packet in [*cut(part), FLUSH]]

    whole = run(script(large), config, encoder=SureEncoder())
    split = run(script(lambda part: pieces(part, sizes * 8)), config, encoder=SureEncoder(), random=Random(seed))
    assert lines(split) == lines(whole)
    for edge in np.cumsum([len(part) for part in parts]).tolist():
        assert not any(each.start < edge < each.end for each in utterances(whole)), "an utterance goes on over a flush"


@given(sounds, settings_of(grammar=GRAMMAR, hop_ms=480), packet_sizes, seeds)
@settings(max_examples=12, deadline=None)
def test_nor_do_they_with_commands(audio, config, sizes, seed):
    whole = run(large(audio), config, encoder=SureEncoder())
    split = run(pieces(audio, sizes * 8), config, encoder=SureEncoder(), random=Random(seed))
    assert lines(split) == lines(whole)


@given(sounds, sounds, settings_of(), packet_sizes, seeds)
@settings(max_examples=30, deadline=None)
def test_nor_do_they_while_languages_are_identified(one, other, config, sizes, seed):
    both = FakeLanguages().only("deu", "eng")

    def events(cut, random):
        return run([*cut(one), both, *cut(-other)], config, encoder=PolyglotEncoder(), languages=both, random=random)

    assert lines(events(lambda part: pieces(part, sizes * 8), Random(seed))) == lines(events(large, None))


@pytest.mark.parametrize("seed", range(6))
def test_nor_do_they_with_a_language_model_in_other_threads(tmp_path: Path, seed: int):
    model = language_model(tmp_path, Weights(lm=1.5, word=0.5, beam=20, tokens=5), VOCABULARY)
    assets, config = Assets(language_model=model), SessionConfig(lm_for="all", **adaptive(hop_ms=200))
    audio = sound("..AB A ...B AB ....A B AB .......A AB " + "." * 12 + "AB B A ...." + "A B " * 12)
    whole = run(large(audio), config, assets=assets, encoder=SureEncoder())
    split = run(pieces(audio, [1_600] * 400), config, assets=assets, encoder=SureEncoder(), random=Random(seed))
    assert lines(split) == lines(whole)
    assert len(utterances(whole)) > 2


@given(sounds, settings_of(mode="cached"), levels, packet_sizes, seeds)
@settings(max_examples=30, deadline=None)
def test_utterances_and_finals_equal_those_of_an_idle_service(audio, config, levels, sizes, seed):
    def strained(levels: list[Level], packets: list[Float32], random: Random | None):
        session = Session(VOCABULARY, config, vad=LoudVad(), normalized=False, modes=("cached",), name="s")
        return Strained(session, FakeEncoder(context=False), random).run_at(packets, levels)

    rest = strained([Level.NORMAL], large(audio), None)
    loaded = strained([min(each, Level.SHORT) for each in levels], pieces(audio, sizes * 8), Random(seed))
    assert unmarked(loaded, Final, SpeechEnded) == unmarked(rest, Final, SpeechEnded)


# ── bounds ──


def silences(audio: Float32, within: UtteranceEvents) -> list[int]:
    """Lengths of the silences between speech frames of an utterance, on the detector's grid."""
    speech = [at for at in range(0, len(audio) - FRAME + 1, FRAME) if np.abs(audio[at : at + FRAME]).mean() > 0.03]
    inside = [at for at in speech if within.start <= at < within.end]
    return [after - before - FRAME for before, after in pairwise(inside)]


@given(sounds, settings_of(trailing_blank_ms=0, max_utterance_ms=20_000), seeds)
@settings(max_examples=40, deadline=None)
def test_no_pause_within_the_least_hangover_splits_and_none_beyond_the_greatest_fails_to(audio, config, seed):
    found = utterances(run(large(audio), config, encoder=SureEncoder(), random=Random(seed)))
    for utterance in found:
        assert all(each < ms(config.most_hangover_ms) + FRAME for each in silences(audio, utterance))
    margin = min(ms(config.post_roll_ms), ms(config.least_hangover_ms))
    for utterance in found:
        if utterance.reason == "silence":
            after = audio[utterance.end - margin : utterance.end - margin + ms(config.least_hangover_ms)]
            assert np.abs(after).mean() <= 0.03


@given(sounds, settings_of(finals="full"), seeds)
@settings(max_examples=30, deadline=None)
def test_a_full_final_is_one_pass_over_the_whole_utterance(audio, config, seed):
    encoder = SureEncoder()
    for utterance in utterances(run(large(audio), config, encoder=encoder, random=Random(seed))):
        assert utterance.final == expected_final(utterance, audio, encoder)


@given(sounds, settings_of(), packet_sizes, seeds, st.sampled_from([0.1, 0.5, 1.0]))
@settings(max_examples=30, deadline=None)
def test_encoder_failures_lose_no_utterance(audio, config, sizes, seed, often):
    random = Random(seed)
    found = utterances(
        run(pieces(audio, sizes * 8), config, random=random, fails=lambda request: random.random() < often)
    )
    assert all(one.end <= other.start for one, other in pairwise(found))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"least_hangover_ms": 59}, "least_hangover_ms"),
        ({"least_hangover_ms": 400, "most_hangover_ms": 300}, "most_hangover_ms"),
        ({"endpointing": "clever"}, "endpointing"),
    ],
)
def test_settings_out_of_bounds_are_refused(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        SessionConfig(**settings)


# ── what decides ──


def ends(audio: Float32, config: SessionConfig, encoder: FakeEncoder | None = None) -> list[float]:
    return [each.end / 16_000 for each in utterances(run(large(audio), config, encoder=encoder or SureEncoder()))]


def test_a_command_that_nothing_can_follow_ends_early_and_an_unfinished_one_waits():
    config = SessionConfig(grammar=GRAMMAR, min_speech_ms=90, **adaptive())
    pause = "....."  # 500 ms: between the two bounds
    complete, unfinished = sound(f"CAB {pause}CAB {pause}..."), sound(f"FACE {pause}AB {pause}.....")
    assert len(ends(complete, config)) == 2
    assert len(ends(unfinished, config)) == 1
    (only,) = utterances(run(large(unfinished), config, encoder=SureEncoder()))
    assert only.decision.text == "FACE AB"


@pytest.mark.parametrize("seed", range(4))
def test_evidence_waits_for_steps_that_may_cut_the_utterance_before_the_pause(seed: int):
    """Noise keeps the gate open after a word outside the grammar; only what follows the cut is a command."""
    config = SessionConfig(grammar=GRAMMAR, min_speech_ms=90, trailing_blank_ms=400, **adaptive(hop_ms=200))
    audio = sound("BEE " + "~" * 14 + "CAB ....DAD " + "." * 12)
    whole = run(large(audio), config, encoder=SureEncoder())
    assert [each.reason for each in utterances(whole)] == ["blanks", "silence", "silence"]
    assert lines(run([audio], config, encoder=SureEncoder(), random=Random(seed))) == lines(whole)


def test_speech_outside_the_grammar_waits_as_long_as_possible():
    config = SessionConfig(grammar=GRAMMAR, min_speech_ms=90, **adaptive())
    assert len(ends(sound("BEE HE FED " + "." * 8 + "BEE FED " + "." * 12), config)) == 1


def decided_after(audio: Float32, config: SessionConfig, assets: Assets | None = None) -> list[int]:
    """Milliseconds of audio after the last speech of each utterance at which its final comes, live."""
    encoder = SureEncoder()
    session = Session(VOCABULARY, config, vad=LoudVad(), normalized=False, modes=("cached",), assets=assets)
    driver, found, seen = Driver(session, encoder), [], 0
    for at in range(0, len(audio), 160):
        session.receive_audio(audio[at : at + 160], 0.0)
        driver.collect()
        while driver.waiting:
            driver.answer()
        for event in driver.events[seen:]:
            if isinstance(event, Final):
                found.append(round((session.received_s - event.end) * 1000) + min(config.post_roll_ms, LEAST))
        seen = len(driver.events)
    return found


def test_a_fluent_speaker_gets_shorter_hangovers_within_a_session():
    waits = decided_after(sound(("AB CD EF " + "." * 15) * 8), SessionConfig(**adaptive()))
    assert len(waits) == 8
    assert waits == sorted(waits, reverse=True)
    assert waits[-1] < waits[0]
    assert all(LEAST <= each <= MOST + 60 for each in waits)


def passes(audio: Float32, config: SessionConfig) -> list[int]:
    """Lengths of all full passes of a live session, in samples."""
    session = Session(VOCABULARY, config, vad=LoudVad(), normalized=False, modes=("cached",))
    driver, found = Driver(session, SureEncoder()), []
    for packet in pieces(audio, [160] * 4_000):
        session.receive_audio(packet, 0.0)
        driver.collect()
        while driver.waiting:
            job = driver.waiting[0]
            assert isinstance(job, Request)
            found += [len(job.samples)] * (job.kind == "final")
            driver.answer()
    return found


@pytest.mark.parametrize("moved_after", range(96, 104))
def test_a_moved_session_ends_earlier_utterances_where_they_ended(moved_after: int):
    """The server that continues has no evidence on pauses before the last final: the place of that final decides."""

    def make(config: SessionConfig, audio: AudioFormat, origin: Origin | None) -> Driver:
        encoder = SureEncoder()
        return Driver(session(encoder, LoudVad(), config, audio, origin), encoder)

    config = SessionConfig(grammar=GRAMMAR, min_speech_ms=90, **adaptive())
    speech = sound(("CAB ......DAD ......FACE ......AB " + "." * 12) * 8)
    whole, moved = MovingClient(make, config), MovingClient(make, config)
    for number, packet in enumerate(pieces((speech * 32_768).astype("<i2").tobytes(), [6_400] * 400)):
        whole.send(packet)
        moved.send(packet)
        if number == moved_after:
            moved.move()
    assert timeless(outcome(moved.end())) == timeless(outcome(whole.end()))


def test_the_second_pass_of_a_short_utterance_is_the_evidence_and_serves_as_the_final():
    (only,) = passes(sound("..AB CD " + "." * 12), SessionConfig(**adaptive()))
    assert only < CHECKED


def test_the_evidence_on_a_long_utterance_costs_a_bounded_pass():
    *found, last = passes(sound(("ABCD EFGH " * 5 + "...") * 3 + "." * 10), SessionConfig(**adaptive()))
    assert found == [CHECKED] * 3
    assert last > 2 * CHECKED
