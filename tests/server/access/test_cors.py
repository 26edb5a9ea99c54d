"""CORS headers: for the origins that may use the server, and for no other. A browser's view: page/test_cors.py."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from xlsr_live.server.run import RunningServer

from tests.support.serving import get, serving

ALLOWED = "https://captions.example"
PATHS = ["/", "/readyz", "/metrics", "/v1/models", "/v1/stream", "/v1/shared/x", "/nowhere", "/v1/listen"]
FOREIGN = ["https://evil.example", "https://captions.example.evil", "http://captions.example", "null", "http://["]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serving(token="s3cret", origins=(ALLOWED,)) as server:
        yield server


def preflight(server: RunningServer, path: str, origin: str) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
    }
    return httpx.options(f"http://127.0.0.1:{server.port}{path}", headers=headers, timeout=60)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("origin", [ALLOWED, "http://localhost:3000"])
def test_an_allowed_origin_may_use_every_path(server: RunningServer, path: str, origin: str):
    response = preflight(server, path, origin)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == origin
    assert "authorization" in response.headers["access-control-allow-headers"]
    assert response.headers["access-control-allow-methods"] == "GET, POST"
    answer = get(server, path, Origin=origin)  # an error too: the page must see the reason
    assert answer.headers["access-control-allow-origin"] == origin
    assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in {*response.headers, *answer.headers}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("origin", FOREIGN)
def test_no_other_origin_may(server: RunningServer, path: str, origin: str):
    response, answer = preflight(server, path, origin), get(server, path, Origin=origin)
    assert response.status_code == 400
    assert "access-control-allow-origin" not in response.headers
    assert not [name for name in answer.headers if "access-control" in name]
    assert "Origin" in answer.headers["vary"]
