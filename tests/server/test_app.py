"""Errors before a session: every path answers in the format that its clients expect."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from xlsr_live.server.app import UPLOADS
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.wire import dial

TOKEN = {"Authorization": "Bearer s3cret"}
WRONG = {"Authorization": "Bearer other"}
SHAPES = {  # of a path, by the service whose clients use it
    "native": ["/v1/stream", "/v1/shared/x", "/v1/ticket", "/v1/reload", "/v1/stream/x", "/nothing", "/metrics", "/v2"],
    "deepgram": ["/v1/listen", "/v1/listen/x", "/v1/speak", "/v1/projects/1/keys", "/v2/listen"],
    "openai": [
        "/v1/models",
        "/v1/models/other",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/audio/speech",
        "/v1/realtime",
        "/v1/realtime/client_secrets",
        "/v1/realtime/transcription_sessions",
        "/v1/chat/completions",
    ],
}
UNAUTHORIZED = {"native": "unauthorized", "deepgram": "INVALID_AUTH", "openai": "invalid_api_key"}
CASES = [(shape, path) for shape, paths in SHAPES.items() for path in paths]


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer, ServerSettings(token="s3cret")) as server:
        yield server


def code_in(shape: str, body: Any) -> str:
    match shape:
        case "native":
            assert body["type"] == "error"
            assert body["message"]
            return body["code"]
        case "deepgram":
            assert set(body) == {"err_code", "err_msg", "request_id"}
            return body["err_code"]
        case _:
            assert set(body["error"]) == {"message", "type", "param", "code"}
            assert body["error"]["type"] == "invalid_request_error"
            return body["error"]["code"]


@pytest.mark.parametrize(("shape", "path"), CASES)
def test_http_errors_have_the_format_of_the_path(server: RunningServer, shape: str, path: str):
    url = f"http://127.0.0.1:{server.port}{path}"
    expected = {401: UNAUTHORIZED[shape], 403: "not_admin", 404: "not_found", 405: "method_not_allowed"}
    errors: set[int] = set()
    for method in ("GET", "POST", "DELETE"):
        for headers in (WRONG, TOKEN):
            answer = httpx.request(method, url, headers=headers, timeout=60)
            if answer.is_error and answer.status_code != 400:  # 400: a request without a file
                errors.add(answer.status_code)
                assert code_in(shape, answer.json()) == expected[answer.status_code], (method, answer.status_code)
                assert ("allow" in answer.headers) is (answer.status_code == 405)
    assert errors


@pytest.mark.parametrize(
    ("shape", "path", "status"),
    [
        ("native", "/", 401),
        ("native", "/v1/stream", 401),
        ("native", "/nowhere", 404),
        ("deepgram", "/v1/listen", 401),
        ("deepgram", "/v2/listen", 404),
        ("openai", "/v1/realtime", 401),
        ("openai", "/v1/other", 404),
    ],
)
def test_refused_websockets_have_the_format_of_the_path(server: RunningServer, shape: str, path: str, status: int):
    async def attempt() -> InvalidStatus:
        with pytest.raises(InvalidStatus) as refusal:
            await dial(f"ws://127.0.0.1:{server.port}{path}")
        return refusal.value

    response = asyncio.run(attempt()).response
    assert response.status_code == status
    assert code_in(shape, json.loads(response.body or b"")) == {401: UNAUTHORIZED[shape], 404: "not_found"}[status]


def test_a_401_explains_how_clients_without_headers_connect(server: RunningServer):
    """Vosk clients send no token."""

    async def attempt() -> InvalidStatus:
        with pytest.raises(InvalidStatus) as refusal:
            await dial(f"ws://127.0.0.1:{server.port}/")
        return refusal.value

    message = json.loads(asyncio.run(attempt()).response.body or b"")["message"]
    assert "?ticket=" in message
    assert "POST /v1/ticket" in message


def test_one_model_by_its_name(server: RunningServer):
    url = f"http://127.0.0.1:{server.port}/v1/models"
    (model,) = httpx.get(url, headers=TOKEN, timeout=60).json()["data"]
    assert httpx.get(f"{url}/{model['id']}", headers=TOKEN, timeout=60).json() == model
    assert model["punctuation"] is False
    missing = httpx.get(f"{url}/facebook/wav2vec2-base-960h", headers=TOKEN, timeout=60)
    assert missing.status_code == 404
    assert model["id"] in missing.json()["error"]["message"]


def test_translations_are_refused_with_the_reason(server: RunningServer):
    url = f"http://127.0.0.1:{server.port}/v1/audio/translations"
    answer = httpx.post(url, headers=TOKEN, files={"file": b"x"}, timeout=60)
    assert answer.status_code == 404
    assert "does not translate into English" in answer.json()["error"]["message"]


@pytest.mark.parametrize(("shape", "path"), [("openai", "/v1/audio/transcriptions"), ("deepgram", "/v1/listen")])
def test_a_failure_of_the_server_has_the_format_of_the_path(
    server: RunningServer, shape: str, path: str, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(UPLOADS[path], "answer", fail)
    answer = httpx.post(f"http://127.0.0.1:{server.port}{path}", headers=TOKEN, timeout=60)
    assert answer.status_code == 500
    body = answer.json()
    assert (body["err_code"] if shape == "deepgram" else body["error"]["code"]) == "internal_error"
    assert "a bug" not in answer.text
