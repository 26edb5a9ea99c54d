"""--url: a server's address in any form that people write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import click

F = TypeVar("F", bound=Callable[..., Any])

PORT: Final = 8765
STREAM: Final = "/v1/stream"
SERVER_URL: Final = f"ws://127.0.0.1:{PORT}{STREAM}"
SECURE: Final = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}


def stream_url(text: str) -> str:
    """The websocket of the server at HOST, HOST:PORT, or an http, https, ws or wss URL. Raises `ValueError`.

    A ws or wss URL with a path stays as it is. Another URL is that of the server's page, which may have a path.
    """
    bare = "://" not in text
    parts = urlsplit(f"ws://{text}" if bare else text)
    if parts.scheme not in SECURE or not parts.hostname:
        raise ValueError(f"{text} is not an address: write studio:{PORT} or https://speech.example.org")
    if parts.port == 0:  # a ValueError if it is no port
        raise ValueError(f"{text} is not an address: no server has port 0")
    netloc = parts.netloc.rstrip(":")
    if bare and parts.port is None:
        netloc += f":{PORT}"
    path = parts.path
    if not path.strip("/") or parts.scheme.startswith("http"):
        path = path.rstrip("/").removesuffix(STREAM) + STREAM
    return parts._replace(scheme=SECURE[parts.scheme], netloc=netloc, path=path).geturl()


def url_option(text: str, default: str | None = None) -> Callable[[F], F]:
    """--url: a server, as the URL of its websocket."""
    return click.option("--url", callback=_read, default=default, show_default=True, metavar="HOST:PORT|URL", help=text)


def urls_option(text: str, default: str | None = None) -> Callable[[F], F]:
    """--url: one or several servers with the same model, as the list of the URLs of their websockets."""
    return click.option(
        "--url",
        callback=_read_several,
        default=default,
        show_default=True,
        metavar="HOST:PORT|URL[,...]",
        help=f"{text} With several, a session moves to the next when its server is gone.",
    )


def _read(context: click.Context, option: click.Parameter, text: str | None) -> str | None:
    try:
        return stream_url(text) if text else None
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from None


def _read_several(context: click.Context, option: click.Parameter, text: str | None) -> list[str]:
    found = [url for each in (text or "").split(",") if (url := _read(context, option, each.strip()))]
    if text and not found:
        raise click.BadParameter("there is no address in it", context, option)
    return found
