"""Hypothesis strategies for sessions."""

from __future__ import annotations

from hypothesis import strategies as st
from xlsr_live.streaming.config import SessionConfig

from tests.support.driving import (
    Float32,
    pieces,
)
from tests.support.fakes import sound

words = st.text("ABCDEFGH", min_size=1, max_size=3).map(lambda word: word + " ")


noise = st.integers(1, 25).map(lambda count: "~" * count)


silence = st.integers(1, 12).map(lambda count: "." * count)


sounds = st.lists(words | noise | silence, min_size=1, max_size=14).map("".join).map(sound)


@st.composite
def configs(draw: st.DrawFn, **fixed: object) -> SessionConfig:
    post_roll = draw(st.sampled_from([0, 10, 40, 240]))
    chosen = {
        "pre_roll_ms": draw(st.sampled_from([0, 45, 300])),
        "post_roll_ms": post_roll,
        "min_speech_ms": draw(st.sampled_from([0, 90, 150])),
        "hangover_ms": draw(st.sampled_from([240, 330, 600])),
        "mode": draw(st.sampled_from(["window", "cached", "cached", "offline"])),
        "hop_ms": draw(st.sampled_from([20, 200, 480, 1_000])),
        "lookahead_ms": draw(st.sampled_from([0, 100, 480, 1_000])),
        "left_context_ms": draw(st.sampled_from([0, 300, 4_000])),
        "max_utterance_ms": draw(st.sampled_from([2_000, 2_990, 20_000])),
        "trailing_blank_ms": draw(st.sampled_from([0, 240, 600, 1_600])),
        "finals": draw(st.sampled_from(["full", "full", "append"])),
        "partials": draw(st.sampled_from([True, True, False])),
    }
    return SessionConfig(**{**chosen, **fixed})  # type: ignore[arg-type]


packet_sizes = st.lists(st.sampled_from([1, 2, 3, 160, 479, 480, 481, 999, 1_600, 5_000, 48_000]), max_size=40)


seeds = st.integers(0, 2**32)


def large(audio: Float32) -> list[Float32]:
    """Packets of 5 s: a session always has room for the next."""
    return pieces(audio, [80_000] * 10)
