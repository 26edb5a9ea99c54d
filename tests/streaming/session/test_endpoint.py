from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.ctc.greedy import DecodedWord
from xlsr_live.streaming.session.endpoint import Cut, Endpointer


def words(*spans: tuple[int, int]) -> list[DecodedWord]:
    return [DecodedWord("A", start, end, -0.1, 1) for start, end in spans]


@pytest.mark.parametrize(
    ("spoken", "committed", "newest", "cut"),
    [
        ([(5, 10)], 30, 29, None),  # 19 frames without a token
        ([(5, 10)], 30, 30, Cut(14, "blanks")),
        ([(5, 10), (12, 20)], 30, 40, Cut(24, "blanks")),
        ([(5, 10)], 13, 40, None),  # the place of the cut is not yet committed
        ([(5, 10)], 14, 40, Cut(14, "blanks")),
        ([], 90, 99, None),  # no words yet
    ],
)
def test_blanks_after_words_end_the_utterance_a_margin_after_the_last_word(spoken, committed, newest, cut):
    endpointer = Endpointer(longest=100, trailing=20, margin=4)
    assert endpointer.cut(words(*spoken), floor=0, committed=committed, newest=newest) == cut


def test_endpointing_by_blanks_can_be_disabled():
    endpointer = Endpointer(longest=100, trailing=0, margin=4)
    assert endpointer.cut(words((5, 10)), floor=0, committed=99, newest=99) is None


@pytest.mark.parametrize(
    ("spoken", "floor", "frame"),
    [
        ([(0, 20), (40, 60), (70, 95)], 0, 30),  # the middle of the longest gap
        ([(0, 20), (40, 60), (70, 95)], 31, 65),  # starting at the floor
        ([(0, 20), (30, 50), (60, 95)], 0, 55),  # the last of equal gaps
        ([(0, 20), (25, 60)], 0, 80),  # the gap after the last word counts
        ([(0, 100)], 0, 90),  # no gap: cut at the committed frames
        ([], 0, 90),
    ],
)
def test_speech_above_the_length_limit_is_cut_in_its_longest_pause(spoken, floor, frame):
    endpointer = Endpointer(longest=100, trailing=0, margin=4)
    assert endpointer.cut(words(*spoken), floor=floor, committed=90, newest=99) is None
    assert endpointer.cut(words(*spoken), floor=floor, committed=90, newest=100) == Cut(frame, "length")


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), max_size=12),
    st.integers(0, 50),
    st.integers(0, 300),
    st.integers(0, 300),
)
@settings(deadline=None)
def test_a_cut_lies_within_the_frames_so_far(gaps, floor, lookahead, rest):
    spoken: list[tuple[int, int]] = []
    at = 0
    for gap, length in gaps:
        spoken.append((at + gap, at + gap + length))
        at += gap + length
    newest = max(100, at + rest)
    committed = max(0, newest - lookahead)
    cut = Endpointer(longest=100, trailing=30, margin=5).cut(
        words(*spoken), floor=floor, committed=committed, newest=newest
    )
    assert cut is not None
    assert 0 < cut.frame <= newest
    if cut.reason == "length" and cut.frame != committed and cut.frame != newest:
        assert not any(start < cut.frame < end for start, end in spoken)
