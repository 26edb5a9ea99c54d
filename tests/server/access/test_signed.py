"""Tickets of replicas."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.server.access.signed import SignedTickets
from xlsr_live.server.access.tokens import Client

ALICE = Client("alice", max_sessions=3, audio_s_per_minute=60.0)


def test_a_ticket_of_one_replica_admits_once_at_each():
    now = [1_000.0]
    one, other = (SignedTickets(b"k" * 32, 30, lambda: now[0]) for _ in range(2))
    ticket = one.issue(ALICE)
    assert ticket
    for replica in (other, one):
        assert replica.holder(ticket) == ALICE
        assert replica.spend(ticket)
        assert replica.holder(ticket) is None
        assert not replica.spend(ticket)
    late = one.issue(ALICE)
    now[0] += 31
    assert other.holder(late) is None
    assert not other.spend(late)


def test_a_client_has_a_limited_number_of_unused_tickets():
    now = [1_000.0]
    tickets = SignedTickets(b"k" * 32, 30, lambda: now[0])
    issued = [tickets.issue(ALICE) for _ in range(100)]
    assert tickets.issue(ALICE) is None
    assert tickets.issue(Client("bob"))
    assert tickets.spend(issued[0])
    assert tickets.issue(ALICE)
    assert tickets.issue(ALICE) is None
    now[0] += 31
    assert tickets.issue(ALICE)


@given(st.data())
@settings(deadline=None)
def test_no_other_string_is_a_ticket(data: st.DataObject):
    tickets = SignedTickets(b"k" * 32, 30)
    ticket = tickets.issue(ALICE)
    assert SignedTickets(b"l" * 32, 30).holder(ticket) is None
    at = data.draw(st.integers(0, len(ticket) - 1))
    letter = data.draw(st.sampled_from("abcABC019-_"))  # what is drawn must not depend on the ticket, which is random
    other = "d" if letter == ticket[at] else letter
    assert tickets.holder(ticket[:at] + other + ticket[at + 1 :]) is None
    assert tickets.holder(data.draw(st.text(max_size=200))) is None


@pytest.mark.parametrize("spelling", ["{}!", "!{}", "{}=", "{}==", " {}", "{}\n"])
def test_another_spelling_does_not_make_a_ticket_good_again(spelling: str):
    tickets = SignedTickets(b"k" * 32, 30)
    ticket = tickets.issue(ALICE)
    assert ticket
    assert tickets.spend(ticket)
    assert tickets.holder(spelling.format(ticket)) is None
    assert not tickets.spend(spelling.format(ticket))
