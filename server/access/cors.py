"""CORS: pages of an allowed origin may use every HTTP endpoint, with or without a token."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Send

from .access import Access

EXPOSED: Final = ("retry-after", "dg-error")  # response headers that pages may read


class AllowedOrigins(CORSMiddleware):
    """Answers preflights, and marks responses for the origins that `Access.shares_with` allows.

    Browsers send no cookies and no stored passwords: pages authenticate by the `Authorization` header.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        super().__init__(app, allow_methods=("GET", "POST"), allow_headers=("*",), expose_headers=EXPOSED)
        self.allow_private_network = True  # a public page of an allowed origin may reach a server in a local network
        self._access = access

    def is_allowed_origin(self, origin: str) -> bool:
        return self._access.shares_with(origin)

    async def send(self, message: Message, send: Send, request_headers: Headers) -> None:
        if self.is_allowed_origin(request_headers.get("origin", "")):
            await super().send(message, send, request_headers)
            return
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).add_vary_header("Origin")  # for caches
        await send(message)
