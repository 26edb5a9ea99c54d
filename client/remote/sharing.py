"""`--share`: a link with which others watch the session in a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ...streaming.protocol.events import Event, SessionMoved, SessionStarted
from ..console import complain
from .links import view_link

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
