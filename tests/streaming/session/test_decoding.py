"""Decoding in sessions with hotwords, language models and calibrations, for any packets and any order of answers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.client.cli import run as command
from xlsr_live.streaming.commands.spotting import Phrases
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.ctc.assets import Assets
from xlsr_live.streaming.ctc.beam import decode_beam
from xlsr_live.streaming.ctc.calibration import Calibration, Curve
from xlsr_live.streaming.ctc.greedy import decode
from xlsr_live.streaming.ctc.lm import LanguageModel, Weights
from xlsr_live.streaming.errors import ConfigError
from xlsr_live.streaming.protocol.events import Event, Final, Partial, from_json, to_json
from xlsr_live.streaming.session.decoding import Decoding
from xlsr_live.streaming.session.final_decoder import LEAST

from tests.support.calibrated import CALIBRATION
from tests.support.driving import FLUSH, Packet, lines, pieces, run, utterances
from tests.support.fakes import VOCABULARY, FakeEncoder, sound
from tests.support.ngrams import language_model

# A letter is one frame, as in CTC: a wrong one costs 2 to 4 nats, and so does each letter in silence.
SPEECH = sound("..ABCD EFGH ABCD GGGG " + "." * 8 + "ABCD GHAB CDEF " + "." * 8, letter=1, gap=3)
HOP = {"hop_ms": 200, "lookahead_ms": 200}


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    weights = Weights(lm=1.5, word=0.5, beam=20, tokens=5, threshold=12.0, unknown=0.6)
    return language_model(tmp_path_factory.mktemp("lm"), weights, VOCABULARY)


def finals(events: list[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def texts(events: list[Event]) -> list[str]:
    return [final.text for final in finals(events)]


def split(packets: list[Packet], random: Random) -> list[Packet]:
    """The same audio in other packets; hotwords stay where they are."""
    found: list[Packet] = []
    for packet in packets:
        if isinstance(packet, np.ndarray):
            found += pieces(packet, [random.choice([1, 160, 700, 1_600, 9_000]) for _ in range(200)])
        else:
            found.append(packet)
    return found


# ── hotwords ──


@pytest.mark.parametrize("settings", [{}, HOP, {"finals": "append"}, {"partials": False}, {"mode": "offline"}])
def test_hotwords_replace_similar_words(settings: dict[str, Any]):
    events = run([SPEECH], SessionConfig(hotwords=("abce:1.5", "ghab cdea:1.5"), **settings))
    assert texts(events) == ["ABCE EFGH ABCE GGGG", "ABCE GHAB CDEA"]
    for utterance in utterances(events):
        shown = utterance.partials[-1] if utterance.partials else None
        assert shown is None or "ABCD" not in [word.word for word in shown.words if word.committed]


def test_unspoken_hotwords_change_nothing():
    assert lines(run([SPEECH], SessionConfig(hotwords=("HGFEDCBA:1",)))) == lines(run([SPEECH]))


def test_new_hotwords_take_effect_at_their_position():
    here = 320 * 22  # within the first utterance
    kept = run([SPEECH[:here], ("abce:1.5",), SPEECH[here:]], SessionConfig(**HOP))
    assert texts(kept) == ["ABCE EFGH ABCE GGGG", "ABCE GHAB CDEF"]
    pause = 320 * 100  # in the pause
    events = run([SPEECH[:pause], ("abce:1.5",), SPEECH[pause:]], SessionConfig(**HOP))
    first, second = utterances(events)
    assert first.end < pause < second.start
    assert texts(events) == ["ABCD EFGH ABCD GGGG", "ABCE GHAB CDEF"]
    ended = run([SPEECH[:pause], (), SPEECH[pause:]], SessionConfig(hotwords=("abce:1.5",), **HOP))
    assert texts(ended) == ["ABCE EFGH ABCE GGGG", "ABCD GHAB CDEF"]


def test_an_appending_final_keeps_words_committed_with_earlier_hotwords():
    here = 320 * 50
    events = run([SPEECH[:here], ("abce:1.5",), SPEECH[here:]], SessionConfig(finals="append", **HOP))
    assert texts(events) == ["ABCD EFGH ABCE GGGG", "ABCE GHAB CDEF"]


changes = st.lists(
    st.tuples(st.integers(0, len(SPEECH)), st.sampled_from([(), ("abce:1.5",), ("efgg:1.5", "abcd g:3")])), max_size=3
)


@given(changes, st.integers(0, 1_000), st.sampled_from(["full", "append"]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_packets_and_the_order_of_answers_change_no_event_with_hotwords(
    changes: list[tuple[int, tuple[str, ...]]], seed: int, how: Any, flushed: bool
):
    packets: list[Packet] = []
    at = 0
    for place, hotwords in sorted(changes):
        packets += [SPEECH[at:place], hotwords]
        at = place
    packets += [SPEECH[at:], *([FLUSH] if flushed else [])]
    config = SessionConfig(hotwords=("cdff:2",), finals=how, **HOP)
    random = Random(seed)
    assert lines(run(split(packets, random), config, random=random)) == lines(run(packets, config))


@pytest.mark.parametrize(
    ("hotwords", "why"),
    [
        (["X7"], "has no X 7"),
        (["AB:0"], "boost of 'AB' is 0"),
        (["AB:21"], "boost of 'AB' is 21"),
        (["AB:nan"], "boost of 'AB' is nan"),
        (["AB:much"], "after the colon"),
        ([" "], "cannot write"),
        (["AB"] * 101, "101 phrases"),
        (["A" * 101], "phrase of 101 characters"),
        (["A" * 100] * 21, "2100 characters"),
    ],
)
def test_bad_hotwords_are_refused_and_the_earlier_ones_stay(hotwords: list[str], why: str):
    with pytest.raises(ConfigError, match=why):
        Decoding(VOCABULARY, SessionConfig(hotwords=tuple(hotwords)))
    decoding = Decoding(VOCABULARY, SessionConfig(hotwords=("AC:9",)))
    with pytest.raises(ConfigError, match=why):
        decoding.set_hotwords(decoding.make_hotwords(hotwords), 5)
    rows = FakeEncoder().rows(sound("AB "))
    assert [word.text for word in decoding.final(10)(rows).words] == ["AC"]


# ── calibration ──


@pytest.mark.parametrize(("offset", "kept"), [(2.0, True), (-5.0, False)])
def test_an_utterance_whose_words_are_almost_surely_wrong_has_no_final(lm: LanguageModel, offset: float, kept: bool):
    curve = Curve(temperature=2.0, offset=offset)
    calibration = Calibration(final=curve, partial=curve)
    for model, settings_ in ((None, {}), (lm, {"nbest": 3}), (None, {"hotwords": ("AC:9",)})):
        assets = Assets(calibration=calibration, language_model=model)
        decoding = Decoding(VOCABULARY, SessionConfig(**settings_), assets)
        found = decoding.final(10)(FakeEncoder().rows(sound("AB CD ")))
        assert bool(found.words) is kept
        assert bool(found.hypotheses) is (kept and model is not None)
        assert (max(found.confidences, default=0.0) >= LEAST) is kept
        (utterance,) = utterances(
            run([sound("..AB CD " + "." * 8, letter=1, gap=3)], SessionConfig(**HOP), assets=assets)
        )
        assert (utterance.final is not None) is kept


# ── language models ──


def test_finals_equal_the_search_over_the_whole_utterance(lm: LanguageModel):
    encoder = FakeEncoder()
    config = SessionConfig(nbest=3, **HOP)
    events = run([SPEECH], config, assets=Assets(language_model=lm), encoder=encoder)
    for utterance in utterances(events):
        found = decode_beam(encoder.rows(SPEECH[utterance.start : utterance.end]), lm, 3)
        assert utterance.final is not None
        assert utterance.final.text == " ".join(word.text for word in found[0].words)
        best = [(" ".join(word.text for word in each.words), round(each.score, 3)) for each in found[:3]]
        assert [(each.text, each.score) for each in utterance.final.nbest or ()] == best
        assert from_json(to_json(utterance.final)) == utterance.final
    partials = [event for event in events if isinstance(event, Partial)]
    assert partials == [event for event in run([SPEECH], SessionConfig(**HOP)) if isinstance(event, Partial)]


def test_finals_have_nbest_only_on_request(lm: LanguageModel):
    for final in finals(run([SPEECH], assets=Assets(language_model=lm))):
        assert "nbest" not in to_json(final)


def test_an_unused_language_model_changes_nothing(lm: LanguageModel):
    assert lines(run([SPEECH], SessionConfig(lm_for="none"), assets=Assets(language_model=lm))) == lines(
        run([SPEECH], SessionConfig(lm_for="none"))
    )


@pytest.mark.parametrize("how", ["full", "append"])
@pytest.mark.parametrize("seed", range(6))
def test_packets_change_no_event_with_a_language_model_in_partials(lm: LanguageModel, how: Any, seed: int):
    config = SessionConfig(lm_for="all", finals=how, max_utterance_ms=2_000, **HOP)
    random, assets = Random(seed), Assets(language_model=lm)
    long = sound("AB BAA AB A B AB BAA A AB BAA B " * 3)
    whole = run([long], config, assets=assets)
    assert len(utterances(whole)) > 1
    assert lines(run(split([long], random), config, assets=assets, random=random)) == lines(whole)
    if how == "append":
        for utterance in utterances(whole):
            assert utterance.final is not None
            assert all(one.end <= other.start for one, other in pairwise(utterance.final.words))


def test_the_search_finds_hotwords_outside_the_lexicon(lm: LanguageModel):
    config = SessionConfig(hotwords=("fefd:1.5",))
    assert texts(
        run([sound("..AB FEFE AB " + "." * 8, letter=1, gap=3)], config, assets=Assets(language_model=lm))
    ) == ["AB FEFD AB"]


@given(changes, st.integers(0, 1_000), st.sampled_from(["full", "append"]))
@settings(max_examples=15, deadline=None)
def test_packets_change_no_event_with_hotwords_and_a_language_model_in_partials(
    lm: LanguageModel, changes: list[tuple[int, tuple[str, ...]]], seed: int, how: Any
):
    packets: list[Packet] = []
    at = 0
    for place, hotwords in sorted(changes):
        packets += [SPEECH[at:place], hotwords]
        at = place
    packets.append(SPEECH[at:])
    config = SessionConfig(hotwords=("cdff:2",), lm_for="all", finals=how, **HOP)
    random, assets = Random(seed), Assets(language_model=lm)
    whole = run(packets, config, assets=assets)
    assert lines(run(split(packets, random), config, assets=assets, random=random)) == lines(whole)


def test_partials_with_a_language_model_have_the_hotwords(lm: LanguageModel):
    audio = sound("..AB FEFE AB AB AB " + "." * 8, letter=1, gap=3)
    for hotwords, wanted in (((), "FEFE"), (("fefd:1.5",), "FEFD")):
        config = SessionConfig(hotwords=hotwords, lm_for="all", update_ms=0, **HOP)
        (utterance,) = utterances(run([audio], config, assets=Assets(language_model=lm)))
        assert wanted in utterance.partials[-1].committed
        assert utterance.final is not None
        assert wanted in utterance.final.text


def test_a_checkpoint_may_enable_its_language_model_in_partials(lm: LanguageModel):
    assets = Assets(language_model=lm, lm_in_partials=True)
    chosen = {
        how: lines(run([SPEECH], SessionConfig(lm_for=how, **HOP), assets=assets)) for how in ("auto", "all", "finals")
    }
    assert chosen["auto"] == chosen["all"] != chosen["finals"]
    other = Assets(language_model=lm)
    assert lines(run([SPEECH], SessionConfig(**HOP), assets=other)) == chosen["finals"]


def test_settings_that_need_a_language_model_are_refused_without_one(lm: LanguageModel):
    cases: list[tuple[dict[str, Any], Assets]] = [
        ({"nbest": 2}, Assets()),
        ({"lm_for": "all"}, Assets()),
        ({"nbest": 2, "lm_for": "none"}, Assets(None, lm)),
    ]
    for wrong, assets in cases:
        with pytest.raises(ConfigError, match="language model"):
            Decoding(VOCABULARY, SessionConfig(**wrong), assets)
    with pytest.raises(ConfigError, match="nbest"):
        SessionConfig(nbest=2, finals="append")


# ── confidences ──


def test_partials_and_finals_have_calibrated_confidences():
    encoder = FakeEncoder()
    assets = Assets(calibration=CALIBRATION)
    events, plain = (run([SPEECH], SessionConfig(**HOP), encoder=encoder, assets=each) for each in (assets, None))
    for utterance, before in zip(utterances(events), utterances(plain), strict=True):
        assert utterance.final is not None
        assert before.final is not None
        words = decode(encoder.rows(SPEECH[utterance.start : utterance.end]), VOCABULARY)
        want = CALIBRATION.of_final(words)
        assert want is not None
        assert [word.confidence for word in utterance.final.words] == [round(each, 3) for each in want]
        assert utterance.final.confidence == round(sum(want) / len(want), 3)
        assert utterance.final.text == before.final.text
        assert [(p.committed, p.volatile) for p in utterance.partials] == [
            (p.committed, p.volatile) for p in before.partials
        ]
        for one, other in pairwise(utterance.partials):
            kept = [word for word in one.words if word.committed]
            assert list(other.words[: len(kept)]) == kept


def test_confidences_of_beam_and_hotwords_use_the_greedy_path(lm: LanguageModel):
    rows = FakeEncoder().rows(sound("AB EF "))
    greedy = decode(rows, VOCABULARY)
    found = Decoding(VOCABULARY, SessionConfig(), Assets(CALIBRATION, lm)).final(1)(rows)
    assert list(found.confidences) == CALIBRATION.of_beam(found.words, greedy)
    for how, curve in (("all", CALIBRATION.of_beam_partial), ("finals", CALIBRATION.of_partial)):
        live = Decoding(VOCABULARY, SessionConfig(lm_for=how), Assets(CALIBRATION, lm)).live(found.words)
        assert list(live.confidences) == curve(found.words)
    found = Decoding(VOCABULARY, SessionConfig(hotwords=("AC:9",)), Assets(CALIBRATION)).final(1)(rows)
    assert [word.text for word in found.words] == ["AC", "EF"]
    assert list(found.confidences) == CALIBRATION.of_final(found.words, greedy)
    assert found.confidences[0] < 0.1 < found.confidences[1]


# ── the command line ──


def test_a_bad_hotword_is_one_line_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert command(["transcribe", "nothing.wav", "--hotword", "one:two"]) == 2
    assert "'one:two': the boost after the colon must be a number" in capsys.readouterr().err


def test_settings_on_the_wire_equal_those_in_python():
    config = SessionConfig(hotwords=("AB", "CD:3"), lm_for="all", nbest=2)
    assert msgspec.json.decode(msgspec.json.encode(config), type=SessionConfig) == config
    assert Phrases({"AB": 2.0}, VOCABULARY).words == {"AB"}
