"""`python -m tests.load.overload`: a short run, and the limits of each verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from xlsr_live.server.run import running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.recognizer import Recognizer

from tests.load import overload_verdict
from tests.load.load_clients import OverloadResult, Refusal
from tests.load.overload import overload
from tests.load.program import run_program

Out = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, clip: Callable[[str], NDArray[np.int16]]) -> Path:
    """A recording of two digits: an utterance every three seconds."""
    soundfile.write(tmp_path / "two.wav", clip("george")[:32_000], 16_000)
    (tmp_path / "two.txt").write_text("one two")
    return tmp_path


def test_three_times_the_sessions_of_a_running_server(folder: Path, capsys: Out, recognizer: Recognizer):
    """A refused client gets Retry-After; every session gets the finals of its audio on an idle server."""
    arguments = ["--times", "3", "--minutes", "0.12", "--session-s", "2.9", "--silence", "0.3", "--lag", "60"]
    with running_server(recognizer, ServerSettings(max_sessions=2)) as server:
        assert run_program(overload, [str(folder), *arguments, "--out", str(folder), "--url", server.url]) == 0
    read = json.loads((folder / "overload.json").read_text())
    assert read["command"].startswith("python -m tests.load.overload")
    equal, total = read["finals_as_alone"]
    assert f"{equal} of {total} finals are those" in capsys.readouterr().out
    assert equal == total == sum(minute["started"] for minute in read["minutes"]) >= 2
    assert (read["clients"], read["limit"], read["broken"]) == (6, 2, [])
    (refused,) = read["refusals"]
    assert (refused["code"], refused["status"], refused["retry_after"]) == ("server_full", 503, 5)
    assert refused["count"] >= 4
    assert read["minutes"][0]["final_lag"]["count"] == total


def test_the_verdict_names_each_violation():
    result = OverloadResult(clients=6, limit=2, equal=9, total=9)
    result.minute(0).final_lags += [0.5] * 99 + [60.0]
    result.minute(60).final_lags += [1.0, 3.0]
    result.refusals[Refusal("server_full", 503, 5)] += 1
    result.refusals[Refusal("overloaded", 1013, None)] += 1  # a close frame cannot carry Retry-After
    assert list(overload_verdict.violations(result, 4.0).values()) == [[], [], []]
    result.equal, result.minute(60).final_lags = 8, [5.0]
    result.refusals[Refusal("overloaded", 503, None)] += 1
    different, silent, late = overload_verdict.violations(result, 4.0).values()
    assert (different, silent, late) == (["1 do not"], ["overloaded (503) does not"], ["5.0 s in minute 2"])


def test_too_much_lag_gives_exit_status_1(folder: Path, capsys: Out, recognizer: Recognizer):
    # One client, with a place beside that of the session just before; it starts within a second, for one session.
    arguments = ["--times", "0.5", "--minutes", "0.045", "--session-s", "2.9", "--limit", "1", "--lag", "0.000001"]
    with running_server(recognizer, ServerSettings(max_sessions=2)) as server:
        assert run_program(overload, [str(folder), *arguments, "--url", server.url]) == 1
    assert "s in minute 1" in capsys.readouterr().out


def test_a_server_that_does_not_answer_is_one_line_on_stderr(capsys: Out):
    assert run_program(overload, ["--url", "ws://127.0.0.1:1/v1/stream"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "does not say how many sessions" in err
