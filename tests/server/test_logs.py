"""The log: its two formats, and no secrets or transcripts in it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import sys
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from xlsr_live.server import logs
from xlsr_live.server.run import running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.wire import settles, talk


def test_text_and_json_lines():
    record = logging.makeLogRecord(
        {"name": "xlsr_live.server", "levelno": 20, "levelname": "INFO", "msg": "ended", **logs.fields(audio_s=1.5)}
    )
    token = logs.session.set("9f86d081")
    try:
        assert logs.TextFormatter().format(record).endswith(" INFO xlsr_live.server [9f86d081]: ended audio_s=1.5")
        line = json.loads(logs.JsonFormatter().format(record))
    finally:
        logs.session.reset(token)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", line.pop("time"))
    about = {"level": "info", "logger": "xlsr_live.server", "session": "9f86d081"}
    assert line == {**about, "message": "ended", "audio_s": 1.5}


@pytest.mark.parametrize(
    "secret",
    [
        "Authorization: Bearer abc.DEF-1=",
        "/v1/stream?ticket=abc_1",
        "bearer abc",
        "xlsr-live.ticket.abc-1",
        "resume=abc",
        "GET '/v1/shared/abc_1-'",
    ],
)
def test_secrets_are_redacted(secret: str):
    try:
        raise RuntimeError(f"cannot take {secret} now")
    except RuntimeError:
        record = logging.getLogger("x").makeRecord("x", 40, "f", 1, f"bad: {secret}", (), sys.exc_info())
    for formatter in (logs.TextFormatter(), logs.JsonFormatter()):
        line = formatter.format(record)
        assert "abc" not in line
        assert line.count("***") >= 2


def test_the_log_of_a_session_has_its_id_and_no_transcript(
    recognizer: Recognizer, clip: Callable[[str], NDArray[np.int16]]
):
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logs.JsonFormatter())
    root = logging.getLogger("xlsr_live")
    root.addHandler(handler)
    level, _ = root.level, root.setLevel(logging.DEBUG)
    try:
        with running_server(recognizer, ServerSettings(token="s3cret")) as server:
            data, allowed = clip("george").tobytes(), {"Authorization": "Bearer s3cret"}
            messages = ['{"type":"start","config":{"hotwords":["TWO NINE"]}}', data, '{"type":"oops"}']
            result = asyncio.run(talk(server.url, messages, additional_headers=allowed))
            assert settles(lambda: server.sessions.count, 0)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert result.finals == ["ONE TWO NINE FOUR EIGHT ONE"]
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    records = [line for line in lines if line["logger"] == "xlsr_live.server"]
    assert [line["message"] for line in records] == ["connected", "closing", "ended"]
    assert {line["session"] for line in records} == {result.events[0].session}
    assert records[0]["client"] == "token"
    assert records[1]["code"] == "unknown_type"
    assert records[2]["audio_s"] == pytest.approx(len(data) / 32_000, abs=0.01)
    for text in ("NINE", "s3cret", "AAAA"):
        assert text not in written.getvalue()
