"""Commands of a session: one decision per utterance for any packets and any order of answers; early ones are final."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.errors import ConfigError, GrammarError
from xlsr_live.streaming.protocol.events import (
    Command,
    Event,
    Final,
    Rejected,
    SpeechEnded,
    Warning,
    from_json,
    to_json,
)
from xlsr_live.streaming.session.session import Session

from tests.support.driving import MODES as ENCODERS
from tests.support.driving import Driver, Float32, lines, pieces, run, utterances
from tests.support.fakes import VOCABULARY, FakeEncoder, LoudVad, sound

GRAMMAR = """
face: face (what: <what>){1,2} [bad]
dad: dad
cab: cab (word: ab | ba=first)
<what> = ab | (a b)=2 | cc
"""
HOP: dict[str, Any] = {"hop_ms": 200, "lookahead_ms": 200, "min_speech_ms": 90}


def decisions(events: list[Event]) -> list[Command | Rejected]:
    return [event for event in events if isinstance(event, Command | Rejected)]


def outcomes(events: list[Event]) -> list[str]:
    return [each.text if isinstance(each, Command) else each.reason for each in decisions(events)]


def config(grammar: str = GRAMMAR, **others: Any) -> SessionConfig:
    return SessionConfig(grammar=grammar, **{**HOP, **others})


MODES = [
    {},
    {"mode": "window"},
    {"mode": "offline"},
    {"partials": False},
    {"finals": "append"},
    {"finals": "append", "partials": False},
]


@pytest.mark.parametrize("how", MODES, ids=str)
def test_every_utterance_is_a_command_or_rejected(how: dict[str, Any]):
    audio = sound(
        "..." + "......... ".join(["DAD ~", "HEAD ~", "FACE AB A B ~~", "~~~~~~~", "CAB BA ~", "CAB CAB ~"]) + "."
    )
    events = run([audio], config(**how))
    found = utterances(events)
    assert outcomes(events) == ["DAD", "unmatched", "FACE AB A B", "unmatched", "CAB BA", "unmatched"]
    assert [each.decision.utterance for each in found if each.decision] == [0, 1, 2, 3, 4, 5]
    slots = [each.slots for each in decisions(events) if isinstance(each, Command)]
    assert slots == [{}, {"what": ["ab", 2]}, {"word": "first"}]
    for at, event in enumerate(events):
        if isinstance(event, SpeechEnded):
            before = events[at - 1]
            early = [d for d in decisions(events[:at]) if isinstance(d, Command) and d.early][-1:]
            assert isinstance(before, Command | Rejected) or early
    free = [event for event in events if not isinstance(event, Command | Rejected)]
    assert lines(free) == lines(run([audio], config("", **how))), "a grammar changes other events"


def test_a_command_is_early_if_no_other_command_can_follow():
    grammar = "dad: dad\ncab: cab (word: ed | ha)\nface: face be [bad]\nmore: face be bad hag"
    audio = sound("...DAD ~~~~~~~~~~~~~.........CAB ED ~~~~~~~~~~~~~.........FACE BE ~~~~~~~~~~~~....", letter=8)
    events = run([audio], config(grammar, trailing_blank_ms=0, hop_ms=100, lookahead_ms=100))
    dad, cab, face = decisions(events)
    assert isinstance(dad, Command)
    assert isinstance(cab, Command)
    assert (dad.early, cab.early, getattr(face, "early", None)) == (True, True, False)  # the word could still grow
    for each in (dad, cab):
        assert 0.2 <= each.audio_s - each.end <= 0.5  # settle time, and the rest of a hop
        final = next(e for e in events if isinstance(e, Final) and e.utterance == each.utterance)
        assert events.index(each) < events.index(final)
    assert not [
        e for e in decisions(run([audio], config(grammar, partials=False))) if isinstance(e, Command) and e.early
    ]


def test_an_early_command_stays_whatever_follows():
    events = run([sound("...DAD ~~~~~~~~FACE HEAD ~.........")], config())
    (only,) = decisions(events)
    assert isinstance(only, Command)
    assert (only.text, only.early) == ("DAD", True)
    assert [e.text for e in events if isinstance(e, Final)] == ["DAD FACE HEAD"]


speech = st.lists(
    st.sampled_from(["DAD ", "CAB AB ", "FACE A B CC ", "BAD ", "HE ", "~", "~~~~~", "...........", "HAG "]),
    min_size=1,
    max_size=9,
).map(lambda parts: sound("".join(parts)))
packet_sizes = st.lists(st.sampled_from([1, 3, 160, 479, 481, 1_600, 5_000, 48_000]), max_size=40)
configs = st.builds(
    lambda how, hop, lookahead, wake: config(
        **{**how, "hop_ms": hop, "lookahead_ms": lookahead, "wake": wake, "max_utterance_ms": 3_000}
    ),
    st.sampled_from(MODES),
    st.sampled_from([100, 480]),
    st.sampled_from([0, 100, 480]),
    st.sampled_from(["", "", "bad", "he hag"]),
)


@given(speech, configs, packet_sizes, st.integers(0, 2**32), st.booleans())
@settings(max_examples=80, deadline=None)
def test_packets_and_the_order_of_answers_change_no_decision(audio, config, sizes, seed, normalized):
    encoder = FakeEncoder(normalized=normalized)
    whole = run(pieces(audio, [80_000] * 10), config, encoder=encoder)
    split = run(pieces(audio, sizes * 8), config, encoder=encoder, random=Random(seed))
    assert lines(split) == lines(whole)
    found = utterances(whole)
    assert all(each.decision is not None for each in found)


@given(speech, st.integers(0, 2**32), st.sampled_from(["full", "append"]))
@settings(max_examples=30, deadline=None)
def test_a_failing_encoder_loses_no_decision(audio, seed, finals):
    random = Random(seed)
    events = run([audio], config(finals=finals), fails=lambda _: random.random() < 0.3)
    assert all(each.decision is not None for each in utterances(events))


# ── in mid-stream ──


def test_a_new_grammar_takes_effect_at_its_position():
    one, two = sound("...DAD ~......."), sound("..DAD ~.......")
    assert outcomes(run([one, two], config())) == ["DAD", "DAD"]
    assert outcomes(run([one, "", two], config())) == ["DAD"]
    assert outcomes(run([one, "ab: ab", two], config())) == ["DAD", "unmatched"]
    assert outcomes(run([one, GRAMMAR, two], config(""))) == ["DAD"]
    middle = len(sound("...D"))
    assert outcomes(run([one[:middle], "ab: ab", one[middle:], two], config())) == ["unmatched", "unmatched"]
    assert outcomes(run([one[:middle], GRAMMAR, one[middle:], two], config("ab: ab"))) == ["DAD", "DAD"]


@given(
    speech,
    st.lists(st.tuples(st.integers(0, 100_000), st.sampled_from(["", "x: bad", GRAMMAR])), max_size=3),
    packet_sizes,
    st.integers(0, 2**32),
    st.sampled_from(["full", "append"]),
)
@settings(max_examples=50, deadline=None)
def test_changes_in_mid_stream_depend_only_on_their_position(audio, changes, sizes, seed, finals):
    def script(cut):
        packets: list[Float32 | str] = []
        at = 0
        for place, grammar in sorted(changes):
            packets += [*cut(audio[at : max(at, place)]), grammar]
            at = max(at, place)
        return [*packets, *cut(audio[at:])]

    whole = run(script(lambda part: pieces(part, [80_000] * 10)), config(finals=finals))
    split = run(script(lambda part: pieces(part, sizes * 8)), config(finals=finals), random=Random(seed))
    assert lines(split) == lines(whole)
    utterances(whole)


@pytest.mark.parametrize(
    ("grammar", "line", "column", "why"),
    [("a: (ab", 1, 7, r"'\)'"), ("a: ab\nb: dab zoo", 2, 8, "cannot write zoo"), ("a: <no>", 1, 4, "no rule")],
)
def test_an_error_in_a_grammar_has_a_place_and_keeps_the_earlier_grammar(
    grammar: str, line: int, column: int, why: str
):
    with pytest.raises(GrammarError, match=why) as caught:
        run([], config(grammar))
    assert (caught.value.line, caught.value.column, caught.value.code) == (line, column, "bad_grammar")
    audio = sound("...DAD ~.......")

    def script():
        yield audio[:8_000]
        with pytest.raises(GrammarError):
            session.receive_grammar(grammar)
        yield audio[8_000:]

    session = Session(VOCABULARY, config(), vad=LoudVad(), normalized=False, modes=ENCODERS, name="s")
    assert outcomes(Driver(session, FakeEncoder()).run(script())) == ["DAD"]


# ── wake phrases ──

WAKE = {"wake": "he hag"}


@pytest.mark.parametrize("how", MODES, ids=str)
def test_commands_count_only_after_the_wake_phrase(how: dict[str, Any]):
    def outcome(text: str) -> list[str]:
        return outcomes(run([sound(text)], config(**WAKE, **how)))

    assert outcome("...DAD ~.........") == ["asleep"]
    assert outcome("...HE HAG DAD ~.........") == ["DAD"]
    assert outcome("...BEEF HE HAG DAD ~.........") == ["DAD"]
    assert outcome("...DAD HE HAG ~.........") == ["woken"]
    assert outcome("...HE HAG ~.........DAD ~.........DAD ~........") == ["woken", "DAD", "asleep"]
    assert outcome("...HE HAG ~.........HE HAG DAD ~.........") == ["woken", "DAD"]
    assert outcome("...HE HAG ~.........BEEF ~.........DAD ~........") == ["woken", "unmatched", "asleep"]


def test_the_wake_phrase_is_valid_for_a_limited_time():
    pause = "." * 30
    audio = sound(f"...HE HAG ~{pause}DAD ~.........")
    assert outcomes(run([audio], config(**WAKE, wake_ms=6_000))) == ["woken", "DAD"]
    assert outcomes(run([audio], config(**WAKE, wake_ms=2_000))) == ["woken", "asleep"]


def test_words_of_a_command_after_the_wake_phrase_have_their_own_times():
    (woken,) = decisions(run([sound("...HE HAG DAD ~.........")], config(**WAKE)))
    (alone,) = decisions(run([sound("..." + "~" * 6 + "DAD ~.........")], config()))
    assert isinstance(woken, Command)
    assert isinstance(alone, Command)
    assert [word.word for word in woken.words] == ["DAD"]
    assert woken.end - woken.start == pytest.approx(alone.end - alone.start)
    assert woken.start > 0.9


def test_events_have_alternatives_on_request():
    (event,) = decisions(run([sound("...CAB AB ~.........")], config(partials=False, command_alternatives=2)))
    assert isinstance(event, Command)
    assert isinstance(event.alternatives, tuple)
    assert len({json.dumps([g.command, g.slots]) for g in event.alternatives}) == 2
    assert from_json(to_json(event)) == event
    assert hash(from_json(to_json(event))) == hash(event)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"command_score": 0.0}, "command_score"),
        ({"command_word_score": 1.5}, "command_word_score"),
        ({"command_alternatives": 21}, "command_alternatives"),
        ({"wake_score": 1.0}, "wake_score"),
        ({"wake": "x" * 101}, "wake"),
        ({"wake": "zoo"}, "cannot write 'zoo'"),
        ({"wake": "  "}, "cannot write"),
        ({"wake_ms": -1}, "wake_ms"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], why: str):
    with pytest.raises(ConfigError, match=why):
        run([], config(**settings))


def test_half_a_minute_of_speech_is_no_command():
    grammar = "long: dad+"
    short, long = (np.tile(sound("DAD ~"), count) for count in (8, 70))
    settings: dict[str, Any] = {"vad": "none", "max_utterance_ms": 60_000, "trailing_blank_ms": 0, "partials": False}
    assert outcomes(run([short], config(grammar, **settings), vad=None))[0].startswith("DAD")
    assert len(long) > 31 * 16_000
    assert outcomes(run([long], config(grammar, **settings), vad=None)) == ["unmatched"]


def test_words_with_letters_outside_the_vocabulary_cause_a_warning():
    def warnings(session: Session) -> list[str]:
        return [event.message for event in session.events() if isinstance(event, Warning)]

    session = Session(
        VOCABULARY, config("x: ﬀ", hotwords=("dad:3",), wake="ba"), vad=LoudVad(), modes=("cached",), normalized=False
    )
    assert warnings(session) == ["the model writes 'ﬀ' as 'FF'"]
    session.receive_hotwords(["deﬀ a:3", "dad"])
    assert warnings(session) == ["the model writes 'deﬀ a' as 'DEFF A'"]
    session.receive_grammar("x: dad")
    assert warnings(session) == []
