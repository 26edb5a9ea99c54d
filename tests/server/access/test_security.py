"""Secure defaults and optional protections, over real connections."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from xlsr_live.server.access.clients import Account
from xlsr_live.server.net.sockets import bind, tls_context
from xlsr_live.server.run import RunningServer
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.errors import ConfigError

from tests.support.serving import AUDIO, get, refused, serving
from tests.support.wire import END, dial, settles, talk


def test_the_default_host_is_loopback():
    with bind(ServerSettings(), 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_nothing_is_compressed():
    async def scene(server: RunningServer) -> None:
        async with connect(server.url, compression="deflate") as websocket:
            assert websocket.response is not None
            assert "Sec-WebSocket-Extensions" not in websocket.response.headers

    with serving() as server:
        asyncio.run(scene(server))


def test_answers_name_no_software_and_allow_no_other_origin():
    with serving() as server:
        for path in ("/", "/readyz", "/nowhere"):
            headers = get(server, path, Origin="https://evil.example").headers
            assert not [name for name in headers if name in ("server", "x-powered-by") or "access-control" in name]


def test_forwarded_addresses_count_from_trusted_proxies_only():
    forwarded = {"X-Forwarded-For": "203.0.113.9"}

    async def scene(server: RunningServer) -> list[int]:
        async with dial(server.url, additional_headers=forwarded):
            statuses: list[int] = []
            for headers in (forwarded, {"X-Forwarded-For": "203.0.113.10"}, {}):
                try:
                    async with dial(server.url, additional_headers=headers):
                        statuses.append(101)
                except InvalidStatus as error:
                    statuses.append(error.response.status_code)
            return statuses

    with serving(max_client_sessions=1) as server:  # all are 127.0.0.1
        assert asyncio.run(scene(server)) == [429, 429, 429]
    with serving(max_client_sessions=1, trusted_proxies=("127.0.0.1",)) as server:
        assert asyncio.run(scene(server)) == [429, 101, 101]
    with serving(max_client_sessions=1, trusted_proxies=("10.0.0.0/8",)) as server:
        assert asyncio.run(scene(server)) == [429, 429, 429]


def connected(server: RunningServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /healthz HT",
        b"GET /v1/stream HTTP/1.1\r\nUpgrade: websocket\r\n",
        b"POST /v1/ticket HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n12",
    ],
)
def test_incomplete_requests_are_cut_off(sent: bytes):
    with serving(request_timeout_s=0.2) as server, connected(server) as slow:
        slow.sendall(sent)
        assert closed(slow)


def test_a_slow_trickle_gains_no_time():
    with serving(request_timeout_s=0.5) as server, connected(server) as slow:
        slow.settimeout(0.05)
        slow.sendall(b"GET / HTTP/1.1\r\n")
        assert any(closed(slow, b"X-%d: y\r\n" % number) for number in range(400))


def closed(one: socket.socket, more: bytes = b"") -> bool:
    """Whether the server closes the connection, after any answer."""
    try:
        one.sendall(more)
        while one.recv(4_096):
            pass
    except TimeoutError:
        return False
    except (ConnectionResetError, BrokenPipeError):
        pass
    return True


def test_the_request_timeout_does_not_end_sessions():
    async def scene(server: RunningServer) -> list[str]:
        async with dial(server.url) as websocket:
            await websocket.send(AUDIO)
            await asyncio.sleep(3.2)
            await websocket.send(END)
            return [json.loads(event)["type"] async for event in websocket]

    with serving(request_timeout_s=3) as server:
        assert asyncio.run(scene(server))[-1] == "session_ended"
        url = f"http://127.0.0.1:{server.port}"
        with httpx.Client(base_url=url, timeout=60) as client:  # one connection for all requests
            assert [client.get("/healthz").status_code for _ in range(3)] == [200] * 3


def test_connections_beyond_the_limit_are_closed():
    with serving(max_connections=10, request_timeout_s=60) as server:
        first = [connected(server) for _ in range(10)]
        try:
            assert settles(lambda: get_or_none(server), None)
        finally:
            for one in first:
                one.close()
        assert settles(lambda: get_or_none(server), 200)


def get_or_none(server: RunningServer) -> int | None:
    try:
        return get(server, "/healthz").status_code
    except httpx.HTTPError:
        return None


def test_a_page_with_a_ticket_needs_no_token():
    with serving(token="s3cret") as server:
        url = f"http://127.0.0.1:{server.port}/v1/ticket"
        assert httpx.post(url, timeout=60).status_code == 401
        assert get(server, "/v1/ticket", Authorization="Bearer s3cret").status_code == 405

        def ticket() -> str:
            answer = httpx.post(url, headers={"Authorization": "Bearer s3cret"}, timeout=60)
            assert answer.headers["cache-control"] == "no-store"
            assert answer.json()["expires_in"] == 30
            return answer.json()["ticket"]

        one = ticket()
        assert refused(server, f"?ticket={one}", Origin="https://evil.example") == (403, "forbidden_origin")
        assert asyncio.run(talk(f"{server.url}?ticket={one}", [AUDIO, END])).finals == ["3200"]
        assert refused(server, f"?ticket={one}") == (401, "unauthorized")

        async def browser() -> str | None:
            async with connect(server.url, subprotocols=cast(Any, ["xlsr-live", f"xlsr-live.ticket.{ticket()}"])) as ws:
                return ws.subprotocol

        assert asyncio.run(browser()) == "xlsr-live"

        async def deepgram() -> str | None:
            url = f"ws://127.0.0.1:{server.port}/v1/listen?encoding=linear16&sample_rate=16000"
            async with connect(url, subprotocols=cast(Any, ["token", one])) as ws:
                return ws.subprotocol

        one = ticket()
        assert asyncio.run(deepgram()) == "token"
        with pytest.raises(InvalidStatus, match="401"):  # used up
            asyncio.run(deepgram())


def test_each_client_has_its_own_limit(tmp_path: Path):
    file = tmp_path / "tokens.toml"
    file.write_text('[alice]\ntoken = "a"\nmax_sessions = 1\n[bob]\ntoken = "b"\n')

    async def scene(server: RunningServer) -> None:
        async with dial(server.url, additional_headers={"Authorization": "Bearer a"}):
            with pytest.raises(InvalidStatus) as refusal:
                await dial(server.url, additional_headers={"Authorization": "Bearer a"})
            response = refusal.value.response
            assert (response.status_code, response.headers["Retry-After"]) == (429, "5")
            assert json.loads(response.body or b"")["code"] == "client_full"
            async with dial(server.url, additional_headers={"Authorization": "Bearer b"}):
                pass

    with serving(tokens_file=str(file)) as server:
        asyncio.run(scene(server))
        assert settles(lambda: server.sessions.count, 0)
        ended = asyncio.run(talk(server.url, [END], additional_headers={"Authorization": "Bearer a"}))
        assert ended.code == 1000


def test_audio_above_the_allowance_waits_and_is_not_lost(monkeypatch: pytest.MonkeyPatch):
    waits = [0.0]
    charge = Account.charge

    def watched(account: Account, seconds: float, now: float) -> float:
        if seconds:
            return charge(account, seconds, account.now)
        waits.append(charge(account, 0.0, account.now + 1.01 * waits[-1]))  # time passes while it waits
        return waits[-1]

    monkeypatch.setattr(Account, "charge", watched)
    with serving(client_audio_s_per_minute=60.0) as server:
        result = asyncio.run(talk(server.url, [bytes(960_000)] * 2 + [bytes(3_200)] * 2 + [END]))
    assert result.finals == ["1926400"]
    assert [round(wait, 2) for wait in waits if wait > 0.001] == [0.1]  # of the fourth packet


def test_the_audio_of_a_session_is_limited():
    with serving(max_session_bytes=8_000) as server:
        result = asyncio.run(talk(server.url, [AUDIO] * 4))
    assert (result.errors, result.code, result.finals) == (["session_too_long"], 1008, ["9600"])


# ── TLS ──


def test_tls(certificate: tuple[str, str]):
    cert, key = certificate
    trusting = ssl.create_default_context(cafile=cert)
    with serving(tls_cert=cert, tls_key=key) as server:
        assert server.url.startswith("wss://")
        assert asyncio.run(talk(server.url, [AUDIO, END], ssl=trusting)).finals == ["3200"]
        url = server.url.replace("wss", "https").replace("/v1/stream", "/healthz")
        assert httpx.get(url, verify=trusting, timeout=60).status_code == 200
        with pytest.raises(httpx.HTTPError):
            httpx.get(url.replace("https", "http"))
    context = tls_context(ServerSettings(tls_cert=cert, tls_key=key))
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_handshakes_are_limited_like_requests(certificate: tuple[str, str]):
    cert, key = certificate
    with serving(tls_cert=cert, tls_key=key, request_timeout_s=0.3) as server, connected(server) as slow:
        assert closed(slow, b"\x16\x03\x01")
    with serving(tls_cert=cert, tls_key=key, max_connections=10) as server:
        first = [connected(server) for _ in range(10)]
        with connected(server) as late:
            assert closed(late)
        for one in first:
            one.close()
        trusting = ssl.create_default_context(cafile=cert)
        url = server.url.replace("wss", "https").replace("/v1/stream", "/healthz")

        def answer() -> int | None:
            try:
                return httpx.get(url, verify=trusting).status_code
            except httpx.HTTPError:
                return None

        assert settles(answer, 200)


def test_a_request_in_the_last_packet_of_the_handshake(certificate: tuple[str, str]):
    cert, key = certificate
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context(cafile=cert).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with serving(tls_cert=cert, tls_key=key) as server, connected(server) as one:

        def pumped(call: Any) -> Any:
            while True:
                try:
                    return call()
                except ssl.SSLWantReadError:
                    one.sendall(outgoing.read())
                    incoming.write(one.recv(1 << 16))

        pumped(tls.do_handshake)
        tls.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert pumped(lambda: tls.read(1 << 16)).startswith(b"HTTP/1.1 200")


def test_a_bad_certificate_is_one_sentence(certificate: tuple[str, str], tmp_path: Path):
    cert, key = certificate
    (tmp_path / "bad.pem").write_text("no certificate")
    for one, other in ((str(tmp_path / "none.pem"), key), (str(tmp_path / "bad.pem"), key), (cert, cert)):
        with pytest.raises(ConfigError, match="tls_cert"):
            tls_context(ServerSettings(tls_cert=one, tls_key=other))
