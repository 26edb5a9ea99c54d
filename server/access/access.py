"""Authentication of clients: tokens in every form that clients send, tickets, and the origins of web pages."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import Final
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from ..settings import ServerSettings, is_loopback
from .ledger import Ledger, SharedTickets
from .signed import SignedTickets
from .tickets import Tickets
from .tokens import Client, load_tokens

SUBPROTOCOL: Final = "xlsr-live"  # offered by pages beside the subprotocol that carries their ticket
TICKET_PREFIX: Final = "xlsr-live.ticket."
_SCHEMES: Final = ("bearer", "token")  # Deepgram's clients send "Token"
_OPENAI_PREFIX: Final = "openai-insecure-api-key."
_EPHEMERAL_PREFIX: Final = "ek_"  # of the keys in dialects/openai/keys


class Access:
    """`ledger`: that of a server with several fronts. Raises `ConfigError` if a file with tokens cannot be read."""

    def __init__(self, settings: ServerSettings, ledger: Ledger | None = None) -> None:
        self.tokens = load_tokens(settings)
        lifetime_s = settings.ticket_s
        self.tickets: Tickets | SharedTickets | SignedTickets = (
            Tickets(lifetime_s) if ledger is None else SharedTickets(ledger, lifetime_s)
        )
        self._settings = settings

    def bearer(self, connection: HTTPConnection) -> Client | None:
        """The owner of the connection's token; on a server without tokens, the client at its address.

        Tokens in the query string do not count: URLs end up in logs, histories and `Referer` headers.
        """
        if not self.tokens.required:
            return self.anonymous(connection.client.host if connection.client else "")
        owners = map(self.tokens.owner, _credentials(connection.headers))
        return next((owner for owner in owners if owner is not None), None)

    def anonymous(self, address: str) -> Client:
        """A client known only by its address."""
        limits = self._settings.max_client_sessions, self._settings.client_audio_s_per_minute
        return Client(network(address), *limits)

    def client(self, connection: HTTPConnection) -> Client | None:
        """Like `bearer`, but a ticket counts too."""
        if (found := self.bearer(connection)) is not None:
            return found
        holders = map(self.tickets.holder, _tickets(connection))
        return next((holder for holder in holders if holder is not None), None)

    def spend(self, connection: HTTPConnection) -> bool:
        """Use up the connection's ticket, if it has one. False if another front has let somebody in with it."""
        spent = [self.tickets.spend(ticket) for ticket in _tickets(connection)]
        return any(spent) or self.bearer(connection) is not None

    def origin_allowed(self, headers: Headers) -> bool:
        """Whether the web page that opens a connection may use the server. Programs send no `Origin`.

        Browsers do not restrict websockets across origins, so the server must check. A page of this server has the
        server's own host name as origin, but so has a page under DNS rebinding: anybody can point a public name at any
        address. So the server's own name counts only if it is a name of the local network, or if the server has TLS,
        tokens or a proxy, which a rebound page cannot pass.
        """
        origin = headers.get("origin")
        return origin is None or self.shares_with(origin) or self._is_own(_split(origin), headers.get("host"))

    def shares_with(self, origin: str) -> bool:
        """Whether pages of another origin may use the server: those in `origins`, and those of this machine."""
        return origin in self._settings.origins or is_loopback(_split(origin).hostname or "")

    def _is_own(self, origin: SplitResult, host: str | None) -> bool:
        settings = self._settings
        safe = settings.tls_cert is not None or self.tokens.required or bool(settings.trusted_proxies)
        return bool(origin.netloc) and origin.netloc == host and (safe or _is_local(origin.hostname or ""))


def subprotocol(websocket: HTTPConnection, known: Collection[str] = ()) -> str | None:
    """The subprotocol to accept: `SUBPROTOCOL` or one in `known`. Browsers close a websocket that accepts none."""
    return next((each for each in _offered(websocket) if each == SUBPROTOCOL or each in known), None)


def _split(origin: str) -> SplitResult:
    try:
        return urlsplit(origin)
    except ValueError:
        return urlsplit("")


def _is_local(host: str) -> bool:
    """Whether the host is no public DNS name: an address, a name without a dot, or one under `.local`."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(".local")
    return True


def network(address: str) -> str:
    """The address range of one client: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _credentials(headers: Headers) -> Iterator[str]:
    """Every string in the headers that may be a token."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() in _SCHEMES:
        yield token.strip()
    yield from _subprotocol_credentials(headers)


def _subprotocol_credentials(headers: Headers) -> Iterator[str]:
    """Tokens and tickets in subprotocols: `token, KEY` (Deepgram) and `realtime, openai-insecure-api-key.KEY` (OpenAI).

    Web pages cannot set headers of a websocket.
    """
    offered = [each.strip() for each in headers.get("sec-websocket-protocol", "").split(",")]
    for name, following in pairwise(offered):
        if name in _SCHEMES:
            yield following
    for each in offered:
        if each.startswith(_OPENAI_PREFIX):
            yield each.removeprefix(_OPENAI_PREFIX)


def ephemeral(connection: HTTPConnection) -> str | None:
    """The part of OpenAI's ephemeral key after `ek_`: a ticket and, after a dot, settings."""
    keys = (each for each in _credentials(connection.headers) if each.startswith(_EPHEMERAL_PREFIX))
    return next((key.removeprefix(_EPHEMERAL_PREFIX) for key in keys), None)


def _tickets(connection: HTTPConnection) -> Iterator[str]:
    """Every string of the connection that may be a ticket."""
    if (key := ephemeral(connection)) is not None:
        yield key.partition(".")[0]
    for offered in _offered(connection):
        if offered.startswith(TICKET_PREFIX):
            yield offered.removeprefix(TICKET_PREFIX)
    yield from _subprotocol_credentials(connection.headers)
    if (ticket := connection.query_params.get("ticket")) is not None:
        yield ticket


def _offered(connection: HTTPConnection) -> list[str]:
    return connection.scope.get("subprotocols", [])
