"""What the fronts of a server share: places, audio, tickets, and connections."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from xlsr_live.server.access.clients import Account, Clients
from xlsr_live.server.access.ledger import Ledger, SharedTickets
from xlsr_live.server.access.tickets import MAX_PER_CLIENT
from xlsr_live.server.access.tokens import Client
from xlsr_live.server.net.board import Board, Posted
from xlsr_live.server.net.shared_listener import PATIENCE_S, SharedListener
from xlsr_live.server.operations.all_metrics import merged
from xlsr_live.server.sessions.fronts import Fronts
from xlsr_live.streaming.protocol.codes import Code

SPAWN = multiprocessing.get_context("spawn")
ANN, BEN = Client("ann", max_sessions=2), Client("ben")


@pytest.fixture
def ledgers(tmp_path: Path) -> Any:
    made = [Ledger(tmp_path / "ledger", front) for front in range(2)]
    yield made
    for ledger in made:
        ledger.close()


def test_a_place_is_taken_once_among_all_fronts(ledgers: list[Ledger]):
    one, other = ledgers
    with ExitStack() as stack:
        claim = lambda ledger, client: stack.enter_context(ledger.claimed("session", client, 3))  # noqa: E731
        assert [claim(one, ANN), claim(other, ANN), claim(one, ANN)] == [None, None, Code.CLIENT_FULL]
        assert [claim(other, BEN), claim(one, BEN), claim(other, ANN)] == [None, Code.SERVER_FULL, Code.CLIENT_FULL]
        assert (one.count("session"), other.count_of(ANN), other.count("upload")) == (3, 2, 0)
        with other.claimed("upload", BEN, 3) as code:
            assert code is None
            assert one.count_of(BEN) == 2
    assert one.count("session") == other.count("session") == 0


def test_a_front_that_ends_frees_its_places(ledgers: list[Ledger]):
    one, other = ledgers
    with one.claimed("session", ANN, 3), other.claimed("session", BEN, 3):
        one.forget(1)
        assert (one.count_of(ANN), one.count_of(BEN)) == (1, 0)


def claim_and_die(file: str) -> None:
    ledger = Ledger(Path(file), 1)
    ledger._database.execute("BEGIN IMMEDIATE")
    ledger._database.execute("INSERT INTO claims (front, kind, client) VALUES (1, 'session', 'ann')")
    os.kill(os.getpid(), 9)


def test_a_front_killed_in_a_transaction_blocks_and_changes_nothing(ledgers: list[Ledger], tmp_path: Path):
    process = SPAWN.Process(target=claim_and_die, args=(str(tmp_path / "ledger"),))
    process.start()
    process.join()
    assert process.exitcode == -9
    with ledgers[0].claimed("session", ANN, 1) as code:
        assert code is None


def test_a_ticket_is_spent_once_and_expires(ledgers: list[Ledger]):
    now = 100.0
    one, other = (SharedTickets(ledger, 30, lambda: now) for ledger in ledgers)
    ticket = one.issue(ANN)
    assert other.holder(ticket) == one.holder(ticket) == ANN
    assert (other.spend(ticket), one.spend(ticket)) == (True, False)
    assert one.holder(ticket) is None
    late = other.issue(BEN)
    now = 130.0
    assert one.holder(late) is None
    assert [one.issue(ANN) is None for _ in range(MAX_PER_CLIENT + 1)] == [False] * MAX_PER_CLIENT + [True]
    now = 161.0
    assert other.issue(ANN)


def test_audio_at_all_fronts_counts_together(ledgers: list[Ledger]):
    client = Client("ann", audio_s_per_minute=60)
    alone = Account(client, 0.0)
    accounts = []
    for ledger in ledgers:
        with Clients(lambda: 0.0, ledger).entered(client) as account:
            accounts.append(account)
    waits: list[tuple[float, float]] = []
    for at in range(300):  # two fronts, each at twice real time: the limit is real time, after a minute of it
        now = at * 0.25
        wait = max(account.charge(0.5, now) for account in accounts)
        waits.append((wait, max(alone.charge(0.5, now), alone.charge(0.5, now))))
    assert all(abs(shared - expected) <= 1.0 for shared, expected in waits)
    assert waits[-1][1] > 100


def test_a_new_connection_at_another_front_knows_what_its_client_has_spent(ledgers: list[Ledger]):
    client = Client("ann", audio_s_per_minute=60)
    one, other = (Clients(lambda: 0.0, ledger) for ledger in ledgers)
    with other.entered(client):
        pass
    with one.entered(client) as account:
        account.charge(90.0, 0.0)
    with other.entered(client) as account:
        assert account.charge(0.0, 0.0) == 30.0


def test_the_same_number_of_connections_for_each_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("xlsr_live.server.net.shared_listener.time.monotonic", lambda: 0.0)  # nobody loses patience

    async def scene() -> list[int]:
        boards = [Board(tmp_path / "board", 2, number) for number in range(2)]
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            shared = [SharedListener(listener, board) for board in boards]
            accepted: list[list[socket.socket]] = [[], []]
            clients: list[socket.socket] = []
            for turn in range(21):
                clients.append(socket.create_connection(listener.getsockname()))
                order = (turn % 3 == 0, turn % 3 != 0)  # whom the kernel wakes first
                for number in order:
                    with suppress(BlockingIOError):
                        accepted[number].append(shared[number].accept()[0])
            counts = [len(each) for each in accepted]
            accepted[0][0].close()
            accepted[0][0].close()
            assert boards[1].total(Posted.CONNECTIONS) == 20
            for each in (*accepted[0], *accepted[1], *clients, *shared):
                each.close()
        assert boards[0].total(Posted.CONNECTIONS) == 0
        return counts

    assert sorted(asyncio.run(scene())) == [10, 11]


def test_a_front_takes_a_connection_that_the_others_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    monkeypatch.setattr("xlsr_live.server.net.shared_listener.time.monotonic", lambda: now)
    board = Board(tmp_path / "board", 2, 0)
    board.post(Posted.CONNECTIONS, 5)
    with socket.create_server(("127.0.0.1", 0)) as listener, SharedListener(listener, board) as shared:
        listener.setblocking(False)
        with socket.create_connection(listener.getsockname()):
            with pytest.raises(BlockingIOError):
                shared.accept()
            now = PATIENCE_S
            connection, _ = shared.accept()
            connection.close()
    board.clear(0)
    assert board.total(Posted.CONNECTIONS) == 0


def test_a_key_names_the_front_that_holds_it(tmp_path: Path):
    (tmp_path / "many").mkdir()
    fronts = Fronts.open(tmp_path, 3, 1)
    assert fronts.key("abc") == "1.abc"
    assert [fronts.owner(key) for key in ("0.abc", "2.x", "1.abc")] == [0, 2, None]
    assert not [key for key in ("", "abc", "3.x", "-1.x", "٢.x", ".x", "99999999999.x", "2") if fronts.owner(key)]
    fronts.ledger.close()
    fronts = Fronts.open(tmp_path / "many", 128, 1)
    assert [fronts.owner(key) for key in ("100.x", "127.x", "128.x")] == [100, 127, None]
    fronts.ledger.close()


def test_metrics_of_fronts_are_one_text():
    text = """# HELP xlsr_live_finals_total Finals.
# TYPE xlsr_live_finals_total counter
xlsr_live_finals_total {}
# HELP xlsr_live_queue_depth Waiting.
# TYPE xlsr_live_queue_depth gauge
xlsr_live_queue_depth 7.0
# HELP xlsr_live_refused_total Refused.
# TYPE xlsr_live_refused_total counter
xlsr_live_refused_total{{reason="server_full"}} {}
"""
    lines = merged({1: text.format("3.0", "1.0"), 0: text.format("4.0", "2.0")}).decode().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        'xlsr_live_finals_total{front="1"} 3.0',
        'xlsr_live_finals_total{front="0"} 4.0',
        "xlsr_live_queue_depth 7.0",
        'xlsr_live_refused_total{front="1",reason="server_full"} 1.0',
        'xlsr_live_refused_total{front="0",reason="server_full"} 2.0',
    ]
    assert sum(line.startswith("# TYPE xlsr_live_finals_total counter") for line in lines) == 1
