"""Addresses of pages on a server."""

from __future__ import annotations

from urllib.parse import urlsplit


def view_link(url: str, key: str) -> str:
    """The URL of the viewers' page, with the key, on the server whose websocket is at `url`."""
    parts = urlsplit(url)
    page = parts._replace(scheme={"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme), query="", fragment=key)
    return page._replace(path=parts.path.removesuffix("/v1/stream").rstrip("/") + "/view").geturl()
