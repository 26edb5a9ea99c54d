"""docs/protocol.md is correct: every example, field, default and code is compared with the implementation."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from itertools import groupby
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from xlsr_live.server.refusals import CLOSE_CODES, HTTP_STATUSES
from xlsr_live.server.run import running_server
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.protocol.codes import Code
from xlsr_live.streaming.protocol.events import Event, Final, Partial, from_json, to_json
from xlsr_live.streaming.protocol.messages import ClientMessage, Start, parse
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.paths import ROOT
from tests.support.wire import talk

DOC = (ROOT / "docs" / "protocol.md").read_text()
UPWARD, _, REST = DOC.partition("\n## Client to server\n")[2].partition("\n## Server to client\n")
DOWNWARD, _, BACK = REST.partition("\n## Resuming\n")


def examples(text: str) -> list[str]:
    return re.findall(r"^```json\n(.+?)\n```$", text, re.MULTILINE | re.DOTALL)


def conversation() -> list[tuple[str, str]]:
    (block,) = re.findall(r"^```conversation\n(.+?)\n```$", DOC, re.MULTILINE | re.DOTALL)
    return [(line[0], line[2:]) for line in block.splitlines()]


def tags(union: Any) -> set[str]:
    return {kind.__struct_config__.tag for kind in get_args(union)}


def rows(text: str, columns: int) -> list[list[str]]:
    """The table rows whose first cell is a name in backticks."""
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in re.findall(r"^\| `.+\|$", text, re.M)]
    return [row for row in found if len(row) == columns]


def strictly(event: str) -> None:
    """The example has exactly the fields that the event has, with their types."""
    assert json.loads(to_json(from_json(event))) == json.loads(event)


@pytest.mark.parametrize("example", examples(UPWARD) + examples(BACK))
def test_every_client_message_is_documented(example: str):
    parse(example)


@pytest.mark.parametrize("example", examples(DOWNWARD))
def test_every_server_message_is_documented(example: str):
    strictly(example)


def test_every_message_has_an_example_under_its_name():
    spoken = {side: [text for each, text in conversation() if each == side and text[0] == "{"] for side in "<>"}
    assert {json.loads(example)["type"] for example in examples(UPWARD) + spoken[">"]} == tags(ClientMessage)
    assert {json.loads(example)["type"] for example in examples(DOWNWARD) + spoken["<"]} == tags(Event)
    for name in tags(ClientMessage) | tags(Event):
        assert f"\n### `{name}`\n" in DOC


def test_every_field_has_its_default():
    documented = {row[0].strip("`"): json.loads(row[1].strip("`")) for row in rows(UPWARD, 3)}
    start = json.loads(msgspec.json.encode(Start()))
    start.pop("type")
    start.pop("config")
    assert documented == {**start, **json.loads(msgspec.json.encode(SessionConfig()))}


def test_every_code_has_its_answer():
    documented = {row[0].strip("`"): row[1] for row in rows(DOWNWARD, 3) if row[1][-3:].isdigit()}
    assert set(documented) == set(Code)
    for code, answer in documented.items():
        assert answer == (str(CLOSE_CODES[code]) if code in CLOSE_CODES else f"HTTP {HTTP_STATUSES[code]}"), code


def test_the_conversation_happens_as_written(recognizer: Recognizer, clip: Callable[[str], NDArray[np.int16]]):
    lines = conversation()
    messages = [
        clip(text.split()[1].removesuffix(".flac")).tobytes() if text.startswith("audio") else text
        for side, text in lines
        if side == ">"
    ]
    written = [text for side, text in lines if side == "<" and text != "..."]
    for event in written:
        strictly(event)
    with running_server(recognizer) as server:
        received = asyncio.run(talk(server.url, messages))
    assert received.code == 1000

    def order(events: list[Event]) -> list[type[Event]]:
        return [kind for kind, _ in groupby(type(event) for event in events)]

    wanted = [from_json(event) for event in written]
    assert order(received.events) == order(wanted)
    assert received.finals == [event.text for event in wanted if isinstance(event, Final)]
    assert received.events[-1] == wanted[-1]
    assert any(isinstance(event, Partial) and event.committed for event in received.events)
