"""`python -m tests.load.generator`: a short run against two servers, and what counts as a problem."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from xlsr_live.client.output.latency import TimedEvents
from xlsr_live.server.run import running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.protocol import events as ev
from xlsr_live.streaming.recognizer import Recognizer

from tests.load.crowd import CrowdResult, gaps
from tests.load.generator import generator
from tests.load.load_clients import Refusal
from tests.load.program import run_program
from tests.support.wire import settles

Out = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, clip: Callable[[str], NDArray[np.int16]]) -> Path:
    soundfile.write(tmp_path / "two.wav", clip("george")[:32_000], 16_000)
    (tmp_path / "two.txt").write_text("one two")
    return tmp_path


def test_clients_of_two_processes_share_two_servers(folder: Path, capsys: Out, recognizer: Recognizer):
    """Six clients want four places: refused clients return later, and nothing is lost or doubled."""
    two = ServerSettings(max_sessions=2)
    with running_server(recognizer, two) as first, running_server(recognizer, two) as second:
        arguments = ["--url", f"{first.url},{second.url}", "--processes", "2", "--clients", "6", "--ramp", "0.5"]
        arguments += ["--seconds", "6", "--session-s", "2.9", "--out", str(folder)]
        assert run_program(generator, [str(folder), *arguments]) == 0
        assert settles(lambda: first.sessions.streams + second.sessions.streams, 0)
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report == json.loads((folder / "generator.json").read_text())
    assert "6 clients in 2 processes" in err
    sessions, refused = report["sessions"], sum(one["count"] for one in report["refusals"])
    assert sessions["attempts"] == sessions["completed"] + refused + sessions["broken"]
    assert sessions["started"] == sessions["completed"] >= 4
    assert sessions["broken"] == 0
    assert {(one["code"], one["status"], one["retry_after"]) for one in report["refusals"]} == {("server_full", 503, 5)}
    assert report["events"]["session_ended"] == sessions["completed"]
    assert report["finals"] == {"finals": report["events"]["final"], "identical": report["events"]["final"]}
    assert report["sent_bytes"] == sessions["completed"] * 2 * 16_000 * 2.9
    assert report["received_bytes"] > 100 * sum(report["events"].values())
    assert report["seconds"]["shown"]["count"] > 0
    assert report["client_cpu_s"] > 0
    assert report["packets_late_s"]["count"] > 0


def test_each_flaw_is_a_problem():
    good = CrowdResult(started=1, completed=1)
    good.finals.update(finals=3, identical=2)
    good.finals["other text"] = 1  # counted and shown, as an edge may move with a session
    good.refusals[Refusal("server_full", 503, 5)] = 2
    good.refusals[Refusal("overloaded", 1013, None)] = 1  # a close frame cannot carry Retry-After
    assert good.problems == []
    bad = CrowdResult()
    bad.add(good)
    bad.finals.update(lost=1, doubled=2, misnumbered=3)
    bad.refusals[Refusal("overloaded", 503, None)] = 1
    bad.broken["the server is gone"] = 4
    assert bad.problems == [
        "4 sessions broke: the server is gone",
        "1 finals lost",
        "2 finals doubled",
        "3 finals misnumbered",
        "a refusal without Retry-After: overloaded (503)",
    ]
    bad.level = 2
    both = CrowdResult(level=1)
    both.add(bad)
    both.add(bad)
    assert (both.completed, both.finals["identical"], both.refusals.total(), both.level) == (2, 4, 8, 2)


def test_time_without_text_is_that_of_moves_in_mid_utterance():
    partial = ev.Partial(utterance=0, committed="", volatile="ONE", words=(), audio_s=1.0)
    moved = ev.SessionMoved(session="s", model="m", mode="cached")
    ended = ev.SpeechEnded(utterance=0, end=3.0, reason="silence")
    log = TimedEvents(0.0, [(1.0, partial), (4.0, moved), (4.5, partial), (5.0, ended), (7.0, moved), (9.0, partial)])
    assert gaps(log) == [3.5]  # the second move fell into silence
    log.events += [(9.5, moved), (10.5, moved), (12.0, partial)]
    assert gaps(log) == [3.5, 3.0]  # a server that died during a move
    log.events.append((13.0, moved))
    assert gaps(log) == [3.5, 3.0]


def test_a_server_that_does_not_answer_is_one_line_on_stderr(capsys: Out, folder: Path):
    assert run_program(generator, [str(folder), "--url", "ws://127.0.0.1:1/v1/stream"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
