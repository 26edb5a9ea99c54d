"""Tokens, tickets, origins, and the limits of each client."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from xlsr_live.server.access import tokens
from xlsr_live.server.access.access import Access, network, subprotocol
from xlsr_live.server.access.clients import PRUNE_ABOVE, Account, Clients
from xlsr_live.server.access.tickets import MAX_PER_CLIENT, Tickets
from xlsr_live.server.access.tokens import Client
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.errors import ConfigError


def connection(
    client: str = "10.0.0.1", query: str = "", offered: tuple[str, ...] = (), **headers: str
) -> HTTPConnection:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "websocket", "headers": raw, "query_string": query.encode(), "client": (client, 1)}
    return HTTPConnection({**scope, "subprotocols": list(offered)})


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        ("Bearer s3cret", True),
        ("bearer s3cret", True),
        ("Bearer s3cre", False),
        ("Bearer s3crets", False),
        ("Bearer", False),
        ("Basic s3cret", False),
        ("s3cret", False),
        ("Bearer \xfc", False),
        (None, False),
    ],
)
def test_bearer_token(header: str | None, allowed: bool):
    one = connection(**({} if header is None else {"authorization": header}))
    assert (Access(ServerSettings(token="s3cret")).bearer(one) is not None) is allowed
    assert Access(ServerSettings()).bearer(one) is not None


def test_every_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """By digests of equal length: the time reveals nothing about a token."""
    lengths: list[tuple[int, int]] = []

    def compare(a: bytes, b: bytes) -> bool:
        lengths.append((len(a), len(b)))
        return a == b

    file = tmp_path / "tokens.toml"
    file.write_text("".join(f'[{name}]\ntoken = "{name * 9}"\n' for name in "abc"))
    access = Access(ServerSettings(tokens_file=str(file)))
    monkeypatch.setattr(tokens.hmac, "compare_digest", compare)
    for sent, owner in (("a" * 9, "a"), ("c" * 9, "c"), ("", None), ("x" * 1_000, None)):
        lengths.clear()
        client = access.bearer(connection(authorization=f"Bearer {sent}"))
        assert (client and client.name) == owner
        assert lengths == [(32, 32)] * 3


def test_named_tokens_have_their_own_limits(tmp_path: Path):
    file = tmp_path / "tokens.toml"
    hashed = hashlib.sha256(b"of bob").hexdigest()
    file.write_text(
        f'[alice]\ntoken = "of alice"\nmax_sessions = 2\n\n[bob]\nsha256 = "{hashed}"\naudio_s_per_minute = 90\n'
    )
    settings = ServerSettings(
        token="of all", tokens_file=str(file), max_client_sessions=5, client_audio_s_per_minute=60.0
    )
    access = Access(settings)
    assert [access.tokens.owner(f"of {name}") for name in ("alice", "bob", "all", "eve")] == [
        Client("alice", 2, 60.0),
        Client("bob", 5, 90.0),
        Client("token", 5, 60.0),
        None,
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no tokens"),
        ("alice = ", "is not TOML"),
        ("alice = 'x'", "line 1, alice: Expected `object`"),
        ("[alice]\ntoken = 'x'\n[bob]\nmax_sessions = 1", "line 3, bob: give either token or sha256"),
        ("[alice]\ntoken = 'x'\nsha256 = '" + "0" * 64 + "'", "line 1, alice: give either"),
        ("[alice]\nsha256 = 'abc'", "alice: Expected `str` matching regex"),
        ("[alice]\ntoken = 'x'\nmax_session = 1", "unknown field `max_session`"),
        ("[alice]\ntoken = 'x'\n[bob]\ntoken = 'x'", "bob and alice have the same token"),
        ("[alice]\ntoken = 'é'", "printable ASCII"),
    ],
)
def test_a_mistake_in_the_tokens_file_is_one_sentence(tmp_path: Path, text: str, message: str):
    file = tmp_path / "tokens.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        Access(ServerSettings(tokens_file=str(file)))
    assert str(file) in str(error.value)


def test_a_token_file(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text("of all\n")
    assert Access(ServerSettings(token_file=str(file))).tokens.owner("of all") is not None
    for bad, message in (("\n", "one line"), ("a\nb", "one line"), (None, "cannot read")):
        file.unlink() if bad is None else file.write_text(bad)
        with pytest.raises(ConfigError, match=message):
            Access(ServerSettings(token_file=str(file)))


def test_token_files_with_a_byte_order_mark_are_read(tmp_path: Path):
    single, named = tmp_path / "token", tmp_path / "tokens.toml"
    single.write_text("of all\r\n", encoding="utf-8-sig")
    named.write_text('[alice]\ntoken = "of alice"\n', encoding="utf-8-sig")
    access = Access(ServerSettings(token_file=str(single), tokens_file=str(named)))
    assert [client and client.name for client in map(access.tokens.owner, ("of all", "of alice"))] == ["token", "alice"]
    for file, settings in (
        (single, ServerSettings(token_file=str(single))),
        (named, ServerSettings(tokens_file=str(named))),
    ):
        file.write_text("of all", encoding="utf-16")
        with pytest.raises(ConfigError, match=rf"cannot read the tokens in {file}: it is UTF-16"):
            Access(settings)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_ticket_is_valid_once_and_for_a_time():
    clock, alice = Clock(), Client("alice")
    tickets = Tickets(30, clock)
    ticket = tickets.issue(alice)
    assert ticket is not None
    assert tickets.holder(ticket) == alice
    assert tickets.holder(ticket[:-1]) is None
    clock.now = 29.9
    assert tickets.holder(ticket) == alice
    tickets.spend(ticket)
    assert tickets.holder(ticket) is None
    other = tickets.issue(alice)
    clock.now = 59.9
    assert other is not None
    assert tickets.holder(other) is None


def test_unused_tickets_are_limited_per_client_and_expire():
    clock = Clock()
    tickets = Tickets(30, clock)
    assert all(tickets.issue(Client("alice")) for _ in range(MAX_PER_CLIENT))
    assert tickets.issue(Client("alice")) is None
    assert tickets.issue(Client("bob")) is not None
    clock.now = 30.0
    assert tickets.issue(Client("alice")) is not None
    assert len(tickets._tickets) == 1


def test_tickets_are_accepted_in_the_url_or_as_subprotocol_and_tokens_are_not():
    access = Access(ServerSettings(token="s3cret"))
    ticket = access.tickets.issue(Client("token"))
    for shown in (
        connection(query=f"ticket={ticket}"),
        connection(offered=("xlsr-live", f"xlsr-live.ticket.{ticket}")),
        connection(**{"sec-websocket-protocol": f"token, {ticket}"}),
        connection(**{"sec-websocket-protocol": f"realtime, openai-insecure-api-key.{ticket}"}),
    ):
        assert access.bearer(shown) is None
        assert access.client(shown) == Client("token")
    assert subprotocol(connection(offered=("xlsr-live", "x"))) == "xlsr-live"
    assert subprotocol(connection(offered=("x",))) is None
    for query in ("token=s3cret", "access_token=s3cret", "ticket=s3cret"):
        assert access.client(connection(query=query)) is None


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_without_tokens_clients_are_identified_by_address(address: str, client: str):
    assert network(address) == client


def test_the_allowance_of_a_minute():
    account = Account(Client("alice", audio_s_per_minute=60.0), now=0.0)
    assert [account.charge(20.0, 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert account.charge(5.0, 0.0) == 5.0  # accepted; the client waits before the next one
    assert account.charge(0.0, 5.0) == 0.0
    assert account.charge(1.0, 6.0) == 0.0  # live audio never waits
    assert account.charge(60.0, 1_000.0) == 0.0
    assert Account(Client("bob"), now=0.0).charge(1e9, 0.0) == 0.0


def test_idle_accounts_are_dropped():
    clock = Clock()
    clients = Clients(clock)
    alice = Client("alice", max_sessions=1)
    with clients.entered(alice):
        assert clients.full(alice)
        for number in range(3 * PRUNE_ABOVE):
            clock.now += 1.0
            with clients.entered(Client(str(number), max_sessions=1)):
                pass
        assert len(clients) <= PRUNE_ABOVE + 1
        assert clients.full(alice)
    assert not clients.full(alice)


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"authorization": "Token s3cret"}, True),
        ({"authorization": "Token other"}, False),
        ({"sec-websocket-protocol": "token, s3cret"}, True),
        ({"sec-websocket-protocol": "bearer,s3cret,x-deepgram-session-id,1"}, True),
        ({"sec-websocket-protocol": "s3cret, token"}, False),
        ({"sec-websocket-protocol": "realtime, openai-insecure-api-key.s3cret, openai-beta.realtime-v1"}, True),
        ({"sec-websocket-protocol": "realtime, openai-insecure-api-key.other"}, False),
        ({"sec-websocket-protocol": "s3cret"}, False),
        ({"authorization": "Token other", "sec-websocket-protocol": "token, s3cret"}, True),
    ],
)
def test_tokens_as_other_services_send_them(headers: dict[str, str], allowed: bool):
    assert (Access(ServerSettings(token="s3cret")).bearer(connection(**headers)) is not None) is allowed


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("https://captions.example", True),
        ("https://speech.example:8765", True),
        ("http://localhost:3000", True),
        ("http://127.0.0.1", True),
        ("http://[::1]:8080", True),
        ("https://evil.example", False),
        ("https://captions.example.evil", False),
        ("https://speech.example", False),
        ("http://localhost.evil.example", False),
        ("null", False),
        ("", False),
        ("http://[", False),
    ],
)
def test_origin(origin: str | None, allowed: bool):
    headers = Headers({"host": "speech.example:8765"} | ({} if origin is None else {"origin": origin}))
    settings = ServerSettings(origins=("https://captions.example",), trusted_proxies=("10.0.0.1",))
    assert Access(settings).origin_allowed(headers) is allowed


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({}, False),
        ({"host": "0.0.0.0"}, False),
        ({"token": "s3cret"}, True),  # the page has no token
        ({"trusted_proxies": ("127.0.0.1",)}, True),  # the proxy forwards only the names of this server
        ({"tls_cert": "cert.pem", "tls_key": "key.pem"}, True),  # the certificate has another name
        ({"origins": ("http://evil.example:8765",)}, True),
    ],
)
def test_a_rebound_name_is_not_the_servers_own_origin(settings: dict[str, Any], allowed: bool):
    headers = Headers({"host": "evil.example:8765", "origin": "http://evil.example:8765"})
    assert Access(ServerSettings(**settings)).origin_allowed(headers) is allowed
    for local in ("192.168.1.2:8765", "[fd00::2]:8765", "captions:8765", "captions.local"):
        assert Access(ServerSettings(**settings)).origin_allowed(Headers({"host": local, "origin": f"http://{local}"}))


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"port": 70_000}, "port"),
        ({"vosk_port": -1}, "vosk_port"),
        ({"vosk_rate": 4_000}, "vosk_rate"),
        ({"wyoming_port": 70_000}, "wyoming_port"),
        ({"max_upload_bytes": 0}, "max_upload_bytes"),
        ({"max_sessions": 0}, "max_sessions"),
        ({"max_message_bytes": 10}, "max_message_bytes"),
        ({"idle_timeout_s": 0}, "idle_timeout_s"),
        ({"max_session_s": float("nan")}, "max_session_s"),
        ({"grace_s": -1}, "grace_s"),
        ({"token": ""}, "token"),
        ({"token": "tökén"}, "token"),
        ({"origins": ("captions.example",)}, "origin"),
        ({"origins": ("https://captions.example/page",)}, "origin"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], names: str):
    with pytest.raises(ConfigError, match=names):
        ServerSettings(**settings)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback(host: str, loopback: bool):
    assert ServerSettings(host=host).loopback is loopback
