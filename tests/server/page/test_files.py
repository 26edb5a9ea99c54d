"""The files of the web page: their headers, caching, and references between them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from xlsr_live.server.operations.pages import FOLDER, TYPES
from xlsr_live.server.run import RunningServer

from tests.support.fake_recognizer import FakeEngine, FakeRecognizer
from tests.support.serving import get, serving

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix in TYPES)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serving() as server:
        yield server


def test_browsers_get_the_page_and_programs_a_list(server: RunningServer):
    page, listed = get(server, "/", **BROWSER), get(server, "/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert listed.headers["content-type"] == "text/plain; charset=utf-8"
    assert page.headers["vary"] == listed.headers["vary"] == "accept, Origin"


@pytest.mark.parametrize("path", ["/", "/overlay", "/view", "/page/style.css", "/page/app.js", "/page/icon.svg"])
def test_the_policy_allows_only_files_of_the_server(server: RunningServer, path: str):
    answer = get(server, path, **BROWSER)
    assert answer.status_code == 200
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy.pop("default-src") == policy.pop("frame-ancestors") == "'none'"
    assert policy.pop("base-uri") == policy.pop("form-action") == "'none'"
    assert set(policy.values()) == {"'self'"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_cached_files_are_not_sent_again(server: RunningServer):
    first = get(server, "/page/app.js")
    assert first.headers["cache-control"] == "no-cache"
    for known in (first.headers["etag"], f'"other", W/{first.headers["etag"]}'):
        again = get(server, "/page/app.js", **{"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert get(server, "/page/app.js", **{"if-none-match": '"other"'}).status_code == 200


def test_no_other_file_is_served(server: RunningServer):
    for path in ("/page/", "/page/nothing.js", "/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2fapp.py"):
        assert httpx.get(f"http://127.0.0.1:{server.port}{path}").status_code == 404


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_used_and_refers_only_to_the_others(path):
    text = path.read_text(encoding="utf-8")
    others = "".join(other.read_text(encoding="utf-8") for other in FILES if other != path)
    assert path.suffix == ".html" or path.name in others
    loaded = re.findall(r'(?:src|href)="([^"]+)"|from "([^"]+)"|url\(["\']?([^)"\']+)', text)
    for name in (one or two or three for one, two, three in loaded):
        assert (FOLDER / name.removeprefix("page/").removeprefix("./")) in FILES, name
    assert "style=" not in text
    assert " on" + "click=" not in text


def test_a_page_can_fetch_the_reason_why_its_websocket_is_refused():
    with serving(token="s3cret", max_sessions=1) as server:
        refused, granted = get(server, "/v1/stream"), get(server, "/v1/stream", authorization="Bearer s3cret")
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
        assert granted.status_code == 204
    with serving(FakeRecognizer(engine=FakeEngine(alive=False))) as server:
        failed = get(server, "/v1/stream")
    assert (failed.status_code, failed.json()["code"]) == (503, "encoder_failed")
    assert int(failed.headers["retry-after"]) > 0
