from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.frames import FIELD, STRIDE, frames, span
from xlsr_live.streaming.requests import Window
from xlsr_live.streaming.session.planner import WindowPlanner

plans = st.fixed_dictionaries(
    {"hop": st.integers(1, 60), "lookahead": st.integers(0, 90), "left_context": st.integers(0, 250)}
)
growth = st.lists(st.integers(0, 20_000), max_size=20)


def planned(plan: dict[str, int], growth: list[int]) -> tuple[list[Window], Window | None, int]:
    planner, length = WindowPlanner(**plan), 0
    windows: list[Window] = []
    for more in growth:
        length += more
        windows += planner.plan(length)
        assert planner.due > length
    return windows, planner.finish(length), length


@given(plans, growth)
@settings(deadline=None)
def test_the_steps_do_not_depend_on_how_audio_arrives(plan: dict[str, int], growth: list[int]):
    assert planned(plan, growth) == planned(plan, [sum(growth)])


@given(plans, growth)
@settings(deadline=None)
def test_the_steps_commit_every_frame_exactly_once(plan: dict[str, int], growth: list[int]):
    windows, last, length = planned(plan, growth)
    committed = 0
    for index, window in enumerate(windows):
        assert window.step == index
        assert window.committed == committed
        assert window.newest == (index + 1) * plan["hop"]
        assert window.commit == max(committed, window.newest - plan["lookahead"])
        committed = window.commit
    if last is None:
        assert committed == frames(length)
    else:
        assert (last.step, last.committed, last.commit, last.newest) == (
            len(windows),
            committed,
            frames(length),
            frames(length),
        )


@given(plans, growth)
@settings(deadline=None)
def test_the_samples_of_a_window_give_exactly_its_frames_and_have_arrived(plan: dict[str, int], growth: list[int]):
    windows, last, length = planned(plan, growth)
    for window in [*windows, *([last] if last else [])]:
        start, end = window.samples
        assert 0 <= start < end <= length
        assert start == window.first * STRIDE
        assert frames(end - start) == window.newest - window.first
        assert end - start == span(window.newest - window.first)
        assert window.first == max(0, window.committed - plan["left_context"])


@given(plans)
@settings(deadline=None)
def test_a_step_is_due_with_the_last_sample_of_its_last_frame(plan: dict[str, int]):
    planner = WindowPlanner(**plan)
    assert planner.due == STRIDE * (plan["hop"] - 1) + FIELD
    assert planner.plan(planner.due - 1) == []
    assert len(planner.plan(planner.due)) == 1


def test_an_utterance_without_a_frame_has_no_step():
    assert WindowPlanner(hop=1, lookahead=0, left_context=0).finish(FIELD - 1) is None


@pytest.mark.parametrize("wrong", [{"hop": 0}, {"lookahead": -1}, {"left_context": -1}])
def test_impossible_lengths_are_refused(wrong: dict[str, int]):
    with pytest.raises(ValueError, match="at least one frame"):
        WindowPlanner(**{"hop": 1, "lookahead": 0, "left_context": 0, **wrong})
