"""The ring buffer, compared with a list that keeps everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.audio.ring import AudioRing

steps = st.lists(
    st.tuples(st.sampled_from(["append", "append", "discard", "read"]), st.integers(0, 300), st.integers(0, 300)),
    max_size=60,
)


@given(st.integers(1, 200), st.booleans(), steps)
@settings(max_examples=200, deadline=None)
def test_the_ring_holds_the_newest_samples_and_counts_the_dropped(capacity: int, grown: bool, steps: list):
    scale = 1 if grown else 300  # beyond the initial size of a ring
    capacity *= scale
    ring = AudioRing(capacity)
    samples = np.arange(400 * 60 * scale, dtype=np.float32) if steps else np.zeros(0, np.float32)
    start = end = dropped = 0
    for call, a, b in steps:
        a, b = a * scale, b * scale
        match call:
            case "append":
                ring.append(samples[end : end + a])
                end += a
                dropped += max(0, end - start - capacity)
                start = max(start, end - capacity)
            case "discard":
                ring.discard(start + a)
                start = min(start + a, end)
            case _:
                low, high = max(0, start - 10) + a, max(0, start - 10) + a + b
                if start <= low <= high <= end:
                    assert np.array_equal(ring.read(low, high), samples[low:high])
                else:
                    with pytest.raises(IndexError):
                        ring.read(low, high)
        assert (ring.start, ring.end, ring.dropped) == (start, end, dropped)
    assert np.array_equal(ring.read(start, end), samples[start:end])


def test_later_audio_does_not_change_what_was_read():
    ring = AudioRing(4)
    ring.append(np.float32([1, 2, 3, 4]))
    held = ring.read(0, 4)
    ring.append(np.float32([5, 6, 7, 8]))
    assert held.tolist() == [1, 2, 3, 4]


def test_discarding_stays_between_the_start_and_the_end():
    ring = AudioRing(10)
    ring.append(np.zeros(6, np.float32))
    ring.discard(4)
    ring.discard(2)
    assert ring.start == 4
    ring.discard(100)
    assert (ring.start, ring.end, ring.dropped) == (6, 6, 0)


def test_a_silent_session_holds_little_memory():
    ring = AudioRing(1_000_000)
    for _ in range(100):
        ring.append(np.zeros(10_000, np.float32))
        ring.discard(ring.end - 100)
    assert ring._data.nbytes <= 200_000
    ring.append(np.zeros(40_000, np.float32))
    assert 160_000 < ring._data.nbytes <= 400_000


def test_a_capacity_of_zero_is_refused():
    with pytest.raises(ValueError, match="capacity"):
        AudioRing(0)
