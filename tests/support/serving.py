"""A server for one test, and requests to it."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import InvalidStatus
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings

from tests.support.fake_recognizer import FakeRecognizer
from tests.support.fuzz_inputs import contained
from tests.support.native_reference import Samples, at_rate
from tests.support.wire import dial

AUDIO = bytes(3_200)


def serving(recognizer: FakeRecognizer | None = None, **settings: Any):
    return running_server(cast(Any, recognizer or FakeRecognizer()), ServerSettings(**settings))


def get(server: RunningServer, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{server.port}{path}", headers=headers, timeout=60)


def refused(server: RunningServer, path: str = "", **headers: str) -> tuple[int, str]:
    async def attempt() -> InvalidStatus:
        with pytest.raises(InvalidStatus) as refusal:
            await dial(server.url + path, additional_headers=headers)
        return refusal.value

    response = asyncio.run(attempt()).response
    return response.status_code, json.loads(response.body or b"")["code"]


def metrics(server: RunningServer, **headers: str) -> dict[str, float]:
    """Samples by name and labels: `xlsr_live_refused_total{reason="server_full"}`."""
    families = text_string_to_metric_families(get(server, "/metrics", **headers).text)
    return {
        sample.name + (json.dumps(sample.labels) if sample.labels else ""): sample.value
        for family in families
        for sample in family.samples
    }


def code_of(dialect: str, body: Any) -> str:
    """The error code, from the place where the dialect's clients read it."""
    match dialect:
        case "native" | "vosk":
            assert body["type"] == "error"
            return body["code"]
        case "deepgram":
            assert body["request_id"]
            assert body["err_msg"]
            return body["err_code"]
        case _:
            assert body["error"]["type"] == "server_error"
            return body["error"]["code"]


def recorded(samples: Samples, container: str) -> bytes:
    """Opus as a browser's MediaRecorder writes it."""
    pytest.importorskip("av", reason="PyAV, which decodes containers, is not installed")
    return contained(container, "libopus", "mono", at_rate(samples, 48_000), 48_000)
