"""Who may connect, and as whom: tokens in whatever form a client shows them, tickets, and the origin of web pages."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from ..settings import ServerSettings, is_loopback
from .tickets import Tickets
from .tokens import Client, load_tokens

SUBPROTOCOL: Final = "xlsr-live"  # what is agreed on with pages that show their ticket as another subprotocol
TICKET: Final = "xlsr-live.ticket."
_SCHEMES: Final = ("bearer", "token")  # "Token" is Deepgram's
_OPENAI_KEY: Final = "openai-insecure-api-key."
_EPHEMERAL: Final = "ek_"  # how keys of `openai_keys` begin


class Access:
    """Raises `ConfigError` if the files with tokens cannot be read."""

    def __init__(self, settings: ServerSettings) -> None:
        self.tokens = load_tokens(settings)
        self.tickets = Tickets(settings.ticket_s)
        self._settings = settings

    def bearer(self, connection: HTTPConnection) -> Client | None:
        """Whom the token that is shown lets in; where there are no tokens that is everybody, by address.

        Tokens are not taken from the query string: addresses end up in logs, histories and `Referer` headers.
        """
        if not self.tokens.required:
            return self.stranger(connection.client.host if connection.client else "")
        owners = map(self.tokens.owner, _shown(connection.headers))
        return next((owner for owner in owners if owner is not None), None)

    def stranger(self, address: str) -> Client:
        """Who is known by nothing but an address."""
        limits = self._settings.max_client_sessions, self._settings.client_audio_s_per_minute
        return Client(network(address), *limits)

    def client(self, websocket: HTTPConnection) -> Client | None:
        """The same for a websocket, which may also show a ticket."""
        if (found := self.bearer(websocket)) is None and (ticket := _ticket(websocket)) is not None:
            return self.tickets.holder(ticket)
        return found

    def spend(self, websocket: HTTPConnection) -> None:
        """The websocket has been let in: its ticket is used up."""
        if (ticket := _ticket(websocket)) is not None:
            self.tickets.spend(ticket)

    def origin_allowed(self, headers: Headers) -> bool:
        """Whether the page behind a connection may use this server. Browsers ask for no permission before they open a
        websocket across origins, so the server must look; programs send no `Origin`.

        A page that was loaded from the very name that it connects to is the server's own only where the name says
        something: anybody can let a public name of theirs lead to any address (DNS rebinding), but gets no name of a
        local network with it, no certificate of ours, no token, and no way through our proxy.
        """
        origin = headers.get("origin")
        if origin is None or origin in self._settings.origins:
            return True
        try:
            page = urlsplit(origin)
        except ValueError:
            return False
        host = page.hostname or ""
        settings = self._settings
        names_count = settings.tls_cert is not None or self.tokens.required or bool(settings.trusted_proxies)
        own = bool(page.netloc) and page.netloc == headers.get("host") and (names_count or _is_local(host))
        return own or is_loopback(host)


def subprotocol(websocket: HTTPConnection, known: Collection[str] = ()) -> str | None:
    """What to agree on, of `known` and our own: browsers hang up if none of those that they offer is taken."""
    return next((each for each in _offered(websocket) if each == SUBPROTOCOL or each in known), None)


def _is_local(host: str) -> bool:
    """Whether no public name server is asked for it: an address, or a name without a dot or under `.local`."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(".local")
    return True


def network(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 that every subscriber of IPv6 has."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _shown(headers: Headers) -> Iterator[str]:
    """What may be a token: of `Authorization`, and of the subprotocols in which pages must put it, which can set no
    headers: `token, KEY` (Deepgram's) and `realtime, openai-insecure-api-key.KEY` (OpenAI's).
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() in _SCHEMES:
        yield token.strip()
    offered = [each.strip() for each in headers.get("sec-websocket-protocol", "").split(",")]
    for name, after in pairwise(offered):
        if name in _SCHEMES:
            yield after
    for each in offered:
        if each.startswith(_OPENAI_KEY):
            yield each.removeprefix(_OPENAI_KEY)


def ephemeral(connection: HTTPConnection) -> str | None:
    """What follows `ek_` in OpenAI's ephemeral key: the ticket and, after a dot, settings."""
    shown = (key for key in _shown(connection.headers) if key.startswith(_EPHEMERAL))
    return next((key.removeprefix(_EPHEMERAL) for key in shown), None)


def _ticket(websocket: HTTPConnection) -> str | None:
    if (key := ephemeral(websocket)) is not None:
        return key.partition(".")[0]
    for offered in _offered(websocket):
        if offered.startswith(TICKET):
            return offered.removeprefix(TICKET)
    return websocket.query_params.get("ticket")


def _offered(websocket: HTTPConnection) -> list[str]:
    return websocket.scope.get("subprotocols", [])
