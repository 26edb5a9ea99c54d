"""Which words of partials the stabilizer delays."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.errors import ConfigError
from xlsr_live.streaming.protocol.events import Final, Partial, Word
from xlsr_live.streaming.session.stabilizer import PartialStabilizer

from tests.support.driving import pieces, run
from tests.support.fakes import sound

AUDIO = sound("AB CD  EF AH  B CAFE BED D A   FED CAB FF ")


def words(text: str, committed: int = 0) -> tuple[Word, ...]:
    """One word every half second, 0.3 s long."""
    return tuple(Word(w, n / 2, n / 2 + 0.3, 0.9, n < committed) for n, w in enumerate(text.split()))


def at(seconds: float) -> int:
    return round(16_000 * seconds)


def stabilizer(hold_back_ms: int = 200, update_ms: int = 0) -> PartialStabilizer:
    return PartialStabilizer(SessionConfig(hold_back_ms=hold_back_ms, update_ms=update_ms))


def test_the_newest_word_waits_for_more_audio_or_another_word():
    policy = stabilizer()
    assert policy.show(words("ONE SEV"), at(0.9)) == words("ONE")
    assert policy.show(words("ONE SEVEN TW"), at(1.4)) == words("ONE SEVEN")
    assert policy.show(words("ONE SEVEN TWO"), at(1.45)) is None
    assert policy.show(words("ONE SEVEN TWO"), at(1.6)) == words("ONE SEVEN TWO")


def test_a_committed_word_never_waits():
    assert stabilizer().show(words("ONE", committed=1), at(0.31)) == words("ONE", committed=1)


def test_a_displayed_word_is_replaced_and_not_removed():
    policy = stabilizer()
    assert policy.show(words("SEVEN"), at(0.6)) == words("SEVEN")
    grown = (Word("SEVENTEEN", 0.0, 0.9, 0.9, False),)
    assert policy.show(grown, at(1.0)) == grown


def test_updates_keep_their_distance_and_lose_nothing():
    policy = stabilizer(0, 200)
    assert policy.show(words("ONE"), at(0.8)) == words("ONE")
    assert policy.show(words("ONE TWO"), at(0.9)) is None
    assert policy.show(words("ONE TWO"), at(1.0)) == words("ONE TWO")


def partials(config: SessionConfig, seed: int | None = None) -> list[Partial]:
    packets = pieces(AUDIO, [1_600] * 1_000)
    return [e for e in run(packets, config, random=None if seed is None else Random(seed)) if isinstance(e, Partial)]


@pytest.mark.parametrize("hop", [60, 240, 480])
def test_the_stabilizer_delays_no_committed_word_and_only_the_last_volatile_one(hop: int):
    raw = partials(SessionConfig(hop_ms=hop, hold_back_ms=0, update_ms=0))
    held = {one.audio_s: one for one in partials(SessionConfig(hop_ms=hop, hold_back_ms=300, update_ms=0))}
    assert len(held) < len(raw) or hop == 480
    shown: tuple[Word, ...] = ()
    for one in raw:
        other = held.get(one.audio_s)
        shown = other.words if other else shown
        assert [w for w in shown if w.committed] == [w for w in one.words if w.committed]
        assert shown in (one.words, one.words[:-1])
        assert one.volatile.startswith(other.volatile if other else "")


def test_at_most_five_partials_a_second_for_any_hop_and_packets():
    config = SessionConfig(hop_ms=60)
    shown = partials(config)
    for one, other in pairwise(shown):
        assert one.utterance != other.utterance or other.audio_s - one.audio_s >= 0.2
    assert len(shown) > 5
    assert partials(config, seed=3) == shown


def test_the_stabilizer_changes_no_final():
    raw, held = (
        [e for e in run([AUDIO], SessionConfig(hop_ms=60, **given)) if isinstance(e, Final)]
        for given in ({"hold_back_ms": 0, "update_ms": 0}, {"hold_back_ms": 2_000, "update_ms": 2_000})
    )
    assert raw == held
    assert raw


@pytest.mark.parametrize("given", [{"hold_back_ms": -1}, {"hold_back_ms": 2_001}, {"update_ms": 5_001}])
def test_bounds_of_the_settings(given: dict[str, int]):
    with pytest.raises(ConfigError):
        SessionConfig(**given)
