"""Who may connect: the bearer token, and the origin of web pages."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from .settings import ServerSettings, is_loopback


def authorized(headers: Headers, settings: ServerSettings) -> bool:
    """Whether `Authorization: Bearer` holds the token, compared in constant time.

    Not taken from the query string: addresses end up in logs, histories and `Referer` headers.
    """
    if settings.token is None:
        return True
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), settings.token.encode())


def origin_allowed(headers: Headers, settings: ServerSettings) -> bool:
    """Whether the page behind a connection may use this server. Browsers ask for no permission before they open a
    websocket across origins, so the server must look; programs send no `Origin`.
    """
    origin = headers.get("origin")
    if origin is None or origin in settings.origins:
        return True
    try:
        page = urlsplit(origin)
        return is_loopback(page.hostname or "") or (bool(page.netloc) and page.netloc == headers.get("host"))
    except ValueError:
        return False
