from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.frames import frames
from xlsr_live.streaming.requests import Window
from xlsr_live.streaming.session.planner import WindowPlanner
from xlsr_live.streaming.session.stitch import Stitcher


def answer(window: Window) -> np.ndarray:
    """Rows that hold their frame and their step."""
    return np.stack([np.array([frame, window.step], np.float32) for frame in range(window.committed, window.newest)])


@given(st.integers(1, 20), st.integers(0, 40), st.integers(0, 60), st.integers(0, 30_000), st.integers(0, 2**32))
@settings(deadline=None)
def test_answers_in_any_order_give_every_committed_row_once_and_in_order(
    hop: int, lookahead: int, left: int, samples: int, seed: int
):
    planner = WindowPlanner(hop=hop, lookahead=lookahead, left_context=left)
    windows = planner.plan(samples)
    if last := planner.finish(samples):
        windows.append(last)
    stitcher = Stitcher()
    ready = [
        step for window in Random(seed).sample(windows, len(windows)) for step in stitcher.add(window, answer(window))
    ]
    assert [step.window for step in ready] == windows
    assert [row[0] for step in ready for row in step.committed] == list(range(frames(samples)))
    for step in ready:
        assert {row[1] for row in (*step.committed, *step.volatile)} <= {step.window.step}
        assert [row[0] for row in step.volatile] == list(range(step.window.commit, step.window.newest))


def test_a_step_waits_for_the_steps_before_it():
    planner = WindowPlanner(hop=2, lookahead=1, left_context=4)
    first, second, third = planner.plan(400 + 5 * 320)
    stitcher = Stitcher()
    assert stitcher.add(third, answer(third)) == []
    assert stitcher.add(second, answer(second)) == []
    assert [step.window for step in stitcher.add(first, answer(first))] == [first, second, third]


@pytest.mark.parametrize("others", [[], [1]])
def test_a_step_is_answered_once(others: list[int]):
    windows = WindowPlanner(hop=2, lookahead=1, left_context=4).plan(400 + 5 * 320)
    stitcher = Stitcher()
    for index in [0, *others, 2]:
        stitcher.add(windows[index], answer(windows[index]))
    for index in [0, 2]:
        with pytest.raises(ValueError, match="answered before"):
            stitcher.add(windows[index], answer(windows[index]))


def test_an_answer_of_the_wrong_length_is_refused_and_can_be_repeated():
    (window,) = WindowPlanner(hop=4, lookahead=1, left_context=0).plan(400 + 3 * 320)
    stitcher = Stitcher()
    with pytest.raises(ValueError, match="5 rows for frames"):
        stitcher.add(window, np.zeros((5, 2), np.float32))
    assert len(stitcher.add(window, answer(window))) == 1
