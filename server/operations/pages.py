"""The files of the web page, held in memory, and their headers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER: Final = Path(__file__).parents[1] / "page"
TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS: Final = {
    # No files from other origins, no inline code, no frames: the page has access to a microphone.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # browsers revalidate, so a page and its modules have the same version
}


class _File(NamedTuple):
    content: bytes
    kind: str
    etag: str


class Pages:
    """The page's files by name. Their URLs are relative, so a proxy may serve them under a folder."""

    def __init__(self) -> None:
        self._files = {path.name: _read(path) for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES}

    def routes(self) -> list[Route]:
        async def overlay(request: Request) -> Response:
            return self.answer(request, "overlay.html")

        async def view(request: Request) -> Response:
            return self.answer(request, "view.html")

        async def file(request: Request) -> Response:
            return self.answer(request, request.path_params["name"])

        return [Route("/overlay", overlay), Route("/view", view), Route("/page/{name}", file)]

    def answer(self, request: Request, name: str) -> Response:
        """The file, or 304 if the browser has it. Raises Starlette's `HTTPException` for an unknown name."""
        if (file := self._files.get(name)) is None:
            raise HTTPException(404)
        headers = {**HEADERS, "etag": file.etag, "vary": "accept"}
        known = [etag.strip().removeprefix("W/") for etag in request.headers.get("if-none-match", "").split(",")]
        if file.etag in known:
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers, media_type=file.kind)


def wants_html(request: Request) -> bool:
    """Whether the client is a browser."""
    return "text/html" in request.headers.get("accept", "")


def _read(path: Path) -> _File:
    content = path.read_bytes()
    return _File(content, TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')
