"""The gate, frame by frame: 30 ms frames, written as one character each; `#` is speech, `-` is none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.audio.gate import Closed, Gate, GateState, Opened

FRAME = 480


def spans(gate: Gate, frames: list[float]) -> tuple[list[tuple[int, int]], list[int]]:
    """Spans in samples, the last closed by the end of input, and the frames after which the gate reported."""
    found: list[tuple[int, int]] = []
    when: list[int] = []
    opened: int | None = None
    for index, probability in enumerate(frames):
        match gate.receive(probability, index * FRAME, (index + 1) * FRAME):
            case Opened(start=start):
                assert opened is None
                opened = start
                when.append(index)
            case Closed(end=end):
                assert opened is not None
                found.append((opened, end))
                opened = None
                when.append(index)
    closed = gate.finish(len(frames) * FRAME)
    assert (closed is None) == (opened is None)
    if opened is not None and closed is not None:
        found.append((opened, closed.end))
    return found, when


def marks(text: str) -> list[float]:
    return [1.0 if char == "#" else 0.0 for char in text]


SETTINGS = {"pre_roll": 2 * FRAME, "post_roll": FRAME, "min_speech": 2 * FRAME, "hangover": 3 * FRAME}


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ("----------", []),
        ("-----#-----", []),  # too short
        ("-----##----", [(3, 8)]),  # pre-roll before, post-roll after
        ("-----##--##----", [(3, 12)]),  # a pause shorter than the hangover
        ("-----##---##-----", [(3, 8), (8, 13)]),  # as long as the hangover; the next pre-roll stops at the span before
        ("-----##----##-----", [(3, 8), (9, 14)]),
        ("##--------", [(0, 3)]),  # pre-roll before the beginning
        ("----##", [(2, 6)]),  # the input ends in speech
        ("----##-", [(2, 7)]),  # in the hangover, after the post-roll
        ("----##--", [(2, 7)]),
        ("----#", []),  # the input ends before the gate opens
        ("-----#-##----", [(3, 10)]),  # a short first word joins speech that follows within the hangover
        ("-----#--##----", [(3, 11)]),
        ("-----#---##----", [(7, 12)]),  # and not to what comes later
        ("-----#--#--##----", [(3, 14)]),  # nor do two short words get lost
        ("------#-#-#-#-#-##----", [(16 - 10 - 2, 19)]),  # a chain of them reaches
        ("--#-#-#-#-#-#-#-##----", [(16 - 10 - 2, 19)]),  # back by twice min_speech and hangover
    ],
)
def test_spans_in_frames(frames: str, expected: list[tuple[int, int]]):
    found, _ = spans(Gate(**SETTINGS), marks(frames))
    assert found == [(start * FRAME, end * FRAME) for start, end in expected]


def test_the_gate_opens_and_closes_with_the_deciding_frame():
    _, when = spans(Gate(**SETTINGS), marks("----##-------"))
    assert when == [5, 8]


def test_an_open_gate_stays_open_at_lower_probabilities():
    gate = Gate(**{**SETTINGS, "hangover": FRAME, "min_speech": 0}, threshold=0.5)
    found, _ = spans(gate, [0.0, 0.49, 0.0, 0.5, 0.36, 0.35, 0.34, 0.49, 0.0])
    assert found == [(1 * FRAME, 7 * FRAME)]


def test_a_zero_minimum_opens_at_once_and_zero_rolls_keep_only_the_frames():
    gate = Gate(pre_roll=0, post_roll=0, min_speech=0, hangover=2 * FRAME)
    assert spans(gate, marks("--#---")) == ([(2 * FRAME, 3 * FRAME)], [2, 4])


def test_four_states():
    gate = Gate(**SETTINGS)
    seen = []
    for index, probability in enumerate(marks("-##-#---")):
        gate.receive(probability, index * FRAME, (index + 1) * FRAME)
        seen.append(gate.state)
    q, a, s, z = GateState.QUIET, GateState.STARTING, GateState.SPEAKING, GateState.STOPPING
    assert seen == [q, a, s, z, s, z, z, q]


def test_late_in_the_hangover_the_gate_reports_where_the_span_would_end():
    gate = Gate(**SETTINGS)
    likely = []
    for index, probability in enumerate(marks("##-#---")):
        gate.receive(probability, index * FRAME, (index + 1) * FRAME)
        likely.append(gate.likely_end)
    assert likely == [None, None, None, None, None, 5 * FRAME, None]


def test_a_finish_forgets_an_onset_and_holds_back_the_next_pre_roll():
    gate = Gate(**SETTINGS)
    for index, probability in enumerate(marks("---#")):
        gate.receive(probability, index * FRAME, (index + 1) * FRAME)
    assert gate.finish(4 * FRAME) is None
    assert gate.receive(1.0, 4 * FRAME, 5 * FRAME) is None
    assert gate.receive(1.0, 5 * FRAME, 6 * FRAME) == Opened(4 * FRAME)


# ── against the rules, written down without a state machine ──


def by_the_rules(
    speech: list[bool], *, pre_roll: int, post_roll: int, min_speech: int, hangover: int
) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []  # of speech frames, in samples
    for index, is_speech in enumerate(speech):
        if is_speech and runs and runs[-1][1] == index * FRAME:
            runs[-1] = (runs[-1][0], (index + 1) * FRAME)
        elif is_speech:
            runs.append((index * FRAME, (index + 1) * FRAME))
    total, found, index, floor, begin = len(speech) * FRAME, [], 0, 0, 0
    while index < len(runs):
        if runs[index][1] - runs[index][0] < min_speech:
            index += 1
            continue
        first = index
        while first > begin and runs[first][0] - runs[first - 1][1] < hangover:
            first -= 1
        onset = max(runs[first][0], runs[index][0] - 2 * (min_speech + hangover))
        while index + 1 < len(runs) and runs[index + 1][0] - runs[index][1] < hangover:
            index += 1
        end = min(runs[index][1] + post_roll, total)
        found.append((max(onset - pre_roll, floor), end))
        floor, index = end, index + 1
        begin = index
    return found


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 12)), max_size=20),
    st.sampled_from([0, 100, 480, 1_000, 4_800]),
    st.sampled_from([0, 100, 480, 900]),
    st.sampled_from([0, 480, 1_000, 1_440, 3_360]),
    st.sampled_from([960, 1_000, 2_400, 9_600]),
)
@settings(max_examples=300, deadline=None)
def test_any_sequence_follows_the_rules(runs, pre_roll, post_roll, min_speech, hangover):
    lengths = {"pre_roll": pre_roll, "post_roll": post_roll, "min_speech": min_speech, "hangover": hangover}
    speech = [is_speech for is_speech, count in runs for _ in range(count)]
    found, _ = spans(Gate(**lengths), [float(is_speech) for is_speech in speech])
    assert found == by_the_rules(speech, **lengths)


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 6)), max_size=20),
    st.integers(0, 1_000),
    st.sampled_from([0, 480, 1_440, 3_000]),
)
@settings(max_examples=300, deadline=None)
def test_an_onset_stays_within_the_kept_samples_and_the_limit_never_decreases(runs, pre_roll, min_speech):
    gate = Gate(pre_roll=pre_roll, post_roll=900, min_speech=min_speech, hangover=2_000)
    frames = [False] * 40 + [is_speech for speech, pause in runs for is_speech in [True] * speech + [False] * pause]
    limit: int | None = None
    for index, is_speech in enumerate(frames):
        kept = index * FRAME - gate.keep
        match gate.receive(float(is_speech), index * FRAME, (index + 1) * FRAME):
            case Opened(start=start):
                assert start >= kept
                limit = gate.limit((index + 1) * FRAME)
            case Closed(end=end):
                assert limit is not None
                assert limit <= end
                limit = None
            case _:
                if limit is not None:
                    assert gate.limit((index + 1) * FRAME) >= limit
                    limit = gate.limit((index + 1) * FRAME + 479)


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=80), st.integers(0, 4), st.integers(1, 4), st.integers(1, 6))
def test_quiet_samples_hold_no_speech_of_a_later_span(
    frames: list[bool], pre_roll: int, min_speech: int, hangover: int
):
    gate = Gate(pre_roll=pre_roll * FRAME, post_roll=0, min_speech=min_speech * FRAME, hangover=hangover * FRAME)
    quiet, open_ = 0, False
    for index, speech in enumerate(frames):
        match gate.receive(float(speech), index * FRAME, (index + 1) * FRAME):
            case Opened(start=start):
                assert start + pre_roll * FRAME >= quiet
                open_ = True
            case Closed():
                open_ = False
            case None:
                pass
        if not open_:
            position = (index + 1) * FRAME
            assert quiet <= gate.quiet_until(position) <= position
            quiet = gate.quiet_until(position)
