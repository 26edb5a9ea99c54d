"""Who may connect: the token in whatever form a client shows it, and the origin of web pages."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from .settings import ServerSettings, is_loopback

_SCHEMES = ("bearer", "token")  # "Token" is Deepgram's
_OPENAI_KEY = "openai-insecure-api-key."


def authorized(headers: Headers, settings: ServerSettings) -> bool:
    """Whether the token is shown, compared in constant time.

    Not taken from the query string: addresses end up in logs, histories and `Referer` headers.
    """
    if settings.token is None:
        return True
    wanted = settings.token.encode()
    return any(hmac.compare_digest(shown.encode(), wanted) for shown in _shown(headers))


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
