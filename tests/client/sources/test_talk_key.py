"""Push to talk: the key's states with given times, and the blocks that it lets through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.client.cli import run
from xlsr_live.client.pump import END_HERE
from xlsr_live.client.sources.talk_key import REPEAT_S, TalkKey, push_to_talk

BLOCK_S = 0.05


def talking(presses: list[float], times: list[float]) -> list[bool]:
    key, left, states = TalkKey(), list(presses), []
    for time in times:
        while left and left[0] <= time:
            key.press(left.pop(0))
        states.append(key.talking(time))
    return states


def test_a_press_switches_on_and_the_next_one_off():
    assert talking([1, 3], [0.5, 1.1, 2.9, 3.1, 3.3, 9]) == [False, True, True, True, False, False]


def test_a_held_key_talks_until_its_repeats_end():
    repeats = [1.5 + 0.04 * number for number in range(50)]  # to 3.46, after the system's delay
    assert talking([1, *repeats], [1.2, 1.6, 3.4, 3.6, 3.8, 9]) == [True, True, True, True, False, False]
    assert talking([1, *repeats, 5], [5.1, 9]) == [True, True]  # the next press starts again


@given(st.floats(0.15, 1.0), st.floats(0.01, 0.2), st.floats(0.0, 5.0))
@settings(deadline=None)
def test_holding_covers_the_whole_time_at_any_rate_of_repeats(delay: float, pause: float, length: float):
    presses = [0.0]
    at = delay
    while at <= length:
        presses.append(at)
        at += pause
    times = [number * BLOCK_S for number in range(int(length / BLOCK_S) + 1)]
    assert all(talking(presses, times))
    if len(presses) > 1:
        assert talking(presses, [presses[-1] + REPEAT_S]) == [False]


async def gate(typed: dict[int, str], count: int = 40) -> tuple[list[object], list[bool]]:
    """What comes through of `count` blocks of 50 ms, with keys typed before some of them."""
    now = 0
    shown: list[bool] = []

    async def blocks() -> AsyncIterator[bytes]:
        nonlocal now
        for now in range(count):
            yield bytes([now % 256])

    passed = push_to_talk(blocks(), TalkKey(), lambda: typed.get(now, ""), shown.append, lambda: now * BLOCK_S)
    return [each if each is END_HERE else each[0] async for each in passed], shown


def test_blocks_pass_between_two_presses_and_the_utterance_ends_then():
    passed, shown = asyncio.run(gate({5: " ", 20: " "}))
    assert passed == [*range(5, 26), END_HERE]  # the second press may be a repeat for a quarter of a second
    assert shown == [False, True, False]


def test_enter_ends_the_utterance_and_the_next_one_begins():
    passed, _ = asyncio.run(gate({5: " ", 10: "\n", 12: "\r", 39: " "}))
    assert passed == [*range(5, 11), END_HERE, 11, 12, END_HERE, *range(13, 40)]
    assert asyncio.run(gate({5: "\n", 8: "x"})) == ([], [False])


def test_a_server_hears_from_a_silent_user_before_it_gives_up():
    passed, _ = asyncio.run(gate({}, 800))  # 40 s
    assert passed == [END_HERE, END_HERE]


def test_it_needs_a_keyboard(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    monkeypatch.setattr("xlsr_live.client.sources.microphone.RECORDER", ("false",))
    assert run(["mic", "--push-to-talk"]) == 2
    assert "keyboard of a terminal" in capsys.readouterr().err
