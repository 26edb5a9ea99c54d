"""The safe sample never passes audio without a final, however often the client flushes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.session.safe_sample import SETTLING, SafeSample


@given(st.lists(st.integers(1, 16_000), max_size=200), st.lists(st.floats(0, 1), min_size=1, max_size=5))
@settings(deadline=None)
def test_it_is_before_the_newest_audio_without_a_final(gaps: list[int], places: list[float]):
    safe, position, last = SafeSample(16_000, 0, 0), 0, 0
    for gap in gaps:
        position += gap
        safe.flushed(position, position)
    final = 0
    for place in sorted(places):
        final = max(final, round(place * position))
        found = safe.at(final)
        assert last <= found <= max(0, final - SETTLING)
        last = found


def test_many_flushes_at_once_keep_the_oldest_grids():
    safe = SafeSample(16_000, 0, 0)
    for number in range(70):
        safe.flushed(160_000 + 160 * number, 160_000 + 160 * number)
    assert safe.at(80_000) <= 80_000
