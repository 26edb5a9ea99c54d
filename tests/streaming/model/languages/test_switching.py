"""Sessions that switch languages in any order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.frames import span
from xlsr_live.streaming.model.encoder import XlsrEncoder

from tests.support.languages import TOKENS, Float32, Speaker, opened, same
from tests.support.noise import noise

ACTS = st.lists(
    st.tuples(st.sampled_from(["step", "pass", "switch", "ensure"]), st.integers(0, 3), st.sampled_from(list(TOKENS))),
    min_size=1,
    max_size=25,
)


@pytest.fixture(scope="module")
def crowded(checkpoint: Path) -> XlsrEncoder:
    """With room for two languages only."""
    encoder, languages = opened(checkpoint, max_batch=1)
    languages.adapters.slots = 2
    return encoder


@given(ACTS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_sessions_that_switch_languages_hear_what_each_hears_alone(
    single: XlsrEncoder, crowded: XlsrEncoder, acts: list[tuple[str, int, str]]
):
    interleave(single, crowded, acts)


@pytest.mark.slow
@given(ACTS)
@settings(max_examples=1_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_thousand_interleavings(single: XlsrEncoder, crowded: XlsrEncoder, acts: list[tuple[str, int, str]]):
    interleave(single, crowded, acts)


def interleave(single: XlsrEncoder, crowded: XlsrEncoder, acts: list[tuple[str, int, str]]) -> None:
    """Byte by byte: with one row in a batch nothing depends on the other languages."""
    speakers = [Speaker(noise(span(25), seed), name) for seed, name in enumerate(("eng", "deu", "tha", "hye"))]
    finished: list[Speaker] = []
    for act, index, language in acts:
        speaker = speakers[index]
        if act == "step" and speaker.left:
            speaker.take(crowded.encode_steps([speaker.next])[0])
        elif act == "pass":
            (rows,) = crowded.encode([speaker.samples], None, [language])
            assert same([rows], [expected(single, speaker.samples, index, language)])
        elif act == "switch":  # the next utterance of that session
            finished.append(speaker)
            crowded.release(speaker.memory.number)
            speakers[index] = Speaker(noise(span(25), index), language)
        elif crowded.languages:
            crowded.languages.ensure(language)
    for speaker in (*finished, *speakers):
        crowded.release(speaker.memory.number)
        steps = stepped(single, speaker)
        assert same(speaker.rows, steps[: len(speaker.rows)])


_KNOWN: dict[Any, Any] = {}


def expected(single: XlsrEncoder, samples: Float32, index: int, language: str) -> Float32:
    if (index, language) not in _KNOWN:
        _KNOWN[index, language] = single.encode([samples], None, [language])[0]
    return _KNOWN[index, language]


def stepped(single: XlsrEncoder, speaker: Speaker) -> list[Float32]:
    key = speaker.samples.tobytes(), speaker.memory.language
    if key not in _KNOWN:
        _KNOWN[key] = Speaker(speaker.samples, speaker.memory.language).run(single).rows
    return _KNOWN[key]
