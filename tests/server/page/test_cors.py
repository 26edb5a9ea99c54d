"""Pages of an allowed origin in Chromium: every HTTP endpoint, with a token; and no page of another origin."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from xlsr_live.server.run import running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.browser import INSECURE
from tests.support.paths import CLIPS

TRY_ALL = """async ([server, audio, key]) => {
    const authorized = { authorization: `Bearer ${key}` };
    const file = new Blob([Uint8Array.from(atob(audio), (letter) => letter.charCodeAt(0))], { type: "audio/flac" });
    const json = { "content-type": "application/json" };
    const form = new FormData();
    form.append("file", file, "a.flac");
    const ask = async (path, options = {}) => {
        const headers = { ...authorized, ...options.headers };
        const response = await fetch(server + path, { ...options, headers }).catch(() => null);
        return response && [response.status, (await response.text()).slice(0, 2_000)];
    };
    return {
        models: await ask("/v1/models"),
        transcriptions: await ask("/v1/audio/transcriptions", { method: "POST", body: form }),
        listen: await ask("/v1/listen", { method: "POST", body: file }),
        ticket: await ask("/v1/ticket", { method: "POST" }),
        secret: await ask("/v1/realtime/client_secrets", { method: "POST", body: "{}", headers: json }),
        shared: await ask("/v1/shared/nothing"),
        admission: await ask("/v1/stream"),
        metrics: await ask("/metrics"),
        missing: await ask("/v1/nothing"),
        wrong: await ask("/v1/models", { headers: { authorization: "Bearer other" } }),
    };
}"""


class Blank(BaseHTTPRequestHandler):
    """A page of another web server."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Another page</title>")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """The port of another web server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Blank) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def audio() -> str:
    return base64.b64encode((CLIPS / "george.flac").read_bytes()).decode()


def test_pages_of_an_allowed_origin_use_http(opened: Callable[..., Any], recognizer: Recognizer, site: int):
    settings = ServerSettings(token="s3cret", origins=(f"http://{INSECURE}:{site}",))
    with running_server(recognizer, settings) as server:
        page = opened(site, host=INSECURE, microphone=False)
        answers = page.evaluate(TRY_ALL, [f"http://127.0.0.1:{server.port}", audio(), "s3cret"])
        page.close()
    assert None not in answers.values()
    assert {name: status for name, (status, _) in answers.items()} == {
        **dict.fromkeys(("models", "transcriptions", "listen", "ticket", "secret", "metrics"), 200),
        "admission": 204,
        "shared": 404,
        "missing": 404,
        "wrong": 401,
    }
    for name in ("transcriptions", "listen"):
        assert "ONE TWO NINE FOUR EIGHT ONE" in answers[name][1]


def test_pages_of_another_origin_get_nothing(opened: Callable[..., Any], recognizer: Recognizer, site: int):
    settings = ServerSettings(token="s3cret", origins=("http://captions.example",))
    with running_server(recognizer, settings) as server:
        page = opened(site, host=INSECURE, microphone=False)
        answers = page.evaluate(TRY_ALL, [f"http://127.0.0.1:{server.port}", audio(), "s3cret"])
        page.close()
    assert set(answers.values()) == {None}
