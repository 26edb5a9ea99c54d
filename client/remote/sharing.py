"""`--share`: a link with which others watch the session in a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from ...streaming.protocol.events import Event, SessionMoved, SessionStarted
from ..console import complain

F = TypeVar("F", bound=Callable[..., Any])


def share_option(command: F) -> F:
    """--share: request a key with which others can watch the session."""
    return click.option("--share", is_flag=True, help="Print a link with which others can watch in a browser.")(command)


def announce_link(session: object, show: Callable[[Event], None]) -> Callable[[Event], None]:
    """`show`, and print the link when a session on a server starts and when it moves."""
    from .stream import Stream

    if not isinstance(session, Stream):
        return show

    def announce(event: Event) -> None:
        if isinstance(event, SessionStarted | SessionMoved) and isinstance(event.share, str):
            complain(f"others can watch at {view_link(session.url, event.share)}")
        show(event)

    return announce


def view_link(url: str, key: str) -> str:
    """The URL of the viewers' page, with the key, on the server whose websocket is at `url`."""
    parts = urlsplit(url)
    page = parts._replace(scheme={"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme), query="", fragment=key)
    return page._replace(path=parts.path.removesuffix("/v1/stream").rstrip("/") + "/view").geturl()
