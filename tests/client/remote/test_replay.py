"""The replay buffer: audio that a client sends again after a broken connection."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.client.remote.replay import ReplayBuffer


@given(st.lists(st.integers(0, 40), max_size=30), st.data())
@settings(max_examples=60, deadline=None)
def test_replay_continues_at_the_servers_position(sizes: list[int], data: st.DataObject):
    replay, sent, marks = ReplayBuffer(4), b"", []
    for number, size in enumerate(sizes):
        packet = bytes([number % 251]) * size
        replay.add(packet)
        sent += packet
        if number % 3 == 0:
            replay.add(f"mark {number}")
            marks.append((len(sent), f"mark {number}"))
    acknowledged = data.draw(st.integers(0, len(sent) // 4))
    received = data.draw(st.integers(acknowledged, len(sent) // 4))
    replay.acknowledge(acknowledged)
    rest = replay.since(received)
    assert b"".join(part for part in rest if isinstance(part, bytes)) == sent[4 * received :]
    at, replayed = 4 * received, []
    for part in rest:
        if isinstance(part, bytes):
            at += len(part)
        else:
            replayed.append((at, part))
    assert replayed == [mark for mark in marks if mark[0] >= 4 * received]


def test_a_sender_waits_when_the_replay_buffer_is_full():
    replay = ReplayBuffer(2, limit=100)
    replay.add(bytes(99))
    assert not replay.full
    replay.add(bytes(1))
    assert replay.full
    replay.acknowledge(50)
    assert not replay.full
    replay.disable()
    replay.add(bytes(1_000))
    assert not replay.full
