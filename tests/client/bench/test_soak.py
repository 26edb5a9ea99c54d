"""`xlsr-live bench soak`: a short one, and what each of its judgements lets pass."""

from __future__ import annotations

import asyncio
import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from xlsr_live.client.bench import churn
from xlsr_live.client.bench.account import Account, Ear
from xlsr_live.client.bench.churn import Churn
from xlsr_live.client.bench.own_server import own_server
from xlsr_live.client.bench.soaked import Look, Soaked
from xlsr_live.client.bench.steady import PACKET, Steady, differences
from xlsr_live.client.bench.streams import Material
from xlsr_live.client.cli import run
from xlsr_live.client.errors import ConnectionProblem
from xlsr_live.streaming.errors import XlsrLiveError
from xlsr_live.streaming.protocol.events import (
    Final,
    Partial,
    SessionEnded,
    SessionStarted,
    SpeechEnded,
    SpeechStarted,
    Word,
)

from tests.support.paths import CLIPS, DIGITS


def test_a_short_soak_of_a_server_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    samples = soundfile.read(CLIPS / "george.flac", dtype="int16")[0]
    soundfile.write(tmp_path / "two.wav", samples[:32_000], 16_000)
    (tmp_path / "two.txt").write_text("one two")
    arguments = ["bench", "soak", str(tmp_path), "--hours", "0.02", "--clients", "3", "--memory", "50"]
    status = run([*arguments, "--model", str(DIGITS), "--out", str(tmp_path / "out")])
    said = capsys.readouterr()
    report: dict[str, Any] = json.loads((tmp_path / "out" / "soak.json").read_text())
    (memory, latency, counters, drift) = report["wrong"].values()
    assert (memory, counters, drift) == ([], [], [])
    assert status == bool(latency)  # so little real time may be too little to judge it by
    assert report["account"]["sessions"] >= 4
    assert report["account"]["audio_s"] + report["account"]["left_s"] > 72
    assert "min left" in said.err
    assert "What was promised" in said.out


def test_a_server_that_cannot_begin_says_why():
    with pytest.raises(XlsrLiveError, match=r"ended with status 2: .*--no-such"), own_server(["--no-such"]):
        raise AssertionError("it began")


def found(mib: list[float], lags: list[float]) -> Soaked:
    """One look and one lag in each twentieth."""
    looks = [Look(number / 20, float(number), each, 0.0) for number, each in enumerate(mib)]
    each = [(number / 20, lag) for number, lag in enumerate(lags)]
    return Soaked(3600, looks, each, each)


def test_memory_may_grow_before_the_first_tenth_and_then_by_five_percent():
    assert not found([100, 200, 300, 310, *[315] * 16], [0.1] * 20).grown(5)
    assert found([100, 200, 300, 310, *[316] * 16], [0.1] * 20).grown(5)
    assert found([100, 200], []).grown(5)


def test_latency_may_vary_and_not_grow():
    assert not found([], [0.9, 0.9, *[0.1] * 12, *[0.14] * 6]).slower(50)
    assert found([], [*[0.1] * 14, *[0.3] * 6]).slower(50)
    assert found([], [0.1] * 10).slower(50)


def told(account: Account) -> dict[str, float]:
    """What a server that counts right says."""
    counts: dict[str, float] = dict.fromkeys(
        [
            *("sessions_open", "queue_depth", "dropped_samples_total", "engine_failures_total"),
            *("engine_restarts_total", "partials_coalesced_total", "pass_seconds_count"),
        ],
        0,
    )
    counts |= {
        'sessions_total{"dialect": "native"}': account.sessions,
        "resumed_total": account.resumed,
        "audio_seconds_total": account.audio_s,
        "speech_seconds_total": account.speech_s,
        "encoded_seconds_total": 3 * account.speech_s,
        "finals_total": account.finals,
        "final_lag_seconds_count": account.finals,
        "partials_total": account.partials,
        "partial_lag_seconds_count": account.partials,
        "batch_size_sum": 7,
        "step_seconds_count": 7,
    }
    return {f"xlsr_live_{name}": value for name, value in counts.items()}


def test_counters_that_are_not_those_of_the_clients_are_told():
    account = Account(resumed=1)
    ear = Ear(account)
    for event in (
        SessionStarted(session="s", model="m", mode="cached"),
        SpeechStarted(utterance=0, start=0.5),
        Partial(utterance=0, committed="A", volatile="", words=(), audio_s=1.0, lag_ms=0.0),
        Final(utterance=0, text="A", words=(), start=0.5, end=2.0, confidence=1.0),
        SpeechEnded(utterance=0, end=2.0, reason="silence"),
        SessionEnded(audio_s=4.0, utterances=1),
    ):
        ear.hear(event)
    right = told(account)
    assert account.differences(right) == []
    for name, value in right.items():
        if name.endswith(("coalesced_total", "pass_seconds_count", "step_seconds_count")):
            continue
        found = account.differences(right | {name: value - 1 if "encoded" not in name else 0})
        assert any(name.removeprefix("xlsr_live_").partition("{")[0][:12] in line for line in found), (name, found)
    assert account.differences(right | {'xlsr_live_errors_total{"code": "bad_audio"}': 1.0})
    account.left, account.left_s = 1, 8.0  # may have heard more than they told
    assert account.differences(right | {"xlsr_live_audio_seconds_total": 12.0}) == []
    assert account.differences(right | {"xlsr_live_audio_seconds_total": 12.1})
    account.errors.update(["overloaded", "encoder_failed"])
    assert account.unexpected == ["1 times the error encoder_failed"]


def test_what_an_idle_server_hears_otherwise_is_told():
    def final(start: float, word: str = "A", confidence: float = 1.0, lag_ms: float = 0.0) -> Final:
        words = (Word(word, start + 0.1, start + 0.2, confidence),)
        return Final(utterance=0, text=word, words=words, start=start, end=9, confidence=1.0, lag_ms=lag_ms)

    live = [final(1.0, lag_ms=500.0), final(2.0, "B")]
    assert differences(live, [final(1.0), final(2.0, "B")]) == []
    for other in (
        [final(1.0)],
        [*live, final(3.0)],
        [final(1.0), final(2.02, "B")],
        [final(1.0, confidence=0.9), live[1]],
    ):
        assert len(differences(live, other)) == 1


def test_clients_wait_for_a_busy_server_and_for_no_other(monkeypatch: pytest.MonkeyPatch):
    said = iter(["server_full", "overloaded", "encoder_failed"])

    async def refused(*_: object) -> None:
        raise ConnectionProblem("no", code=next(said), status=503)

    monkeypatch.setattr(Churn, "_visit", refused)
    monkeypatch.setattr(churn, "AGAIN_S", 0.0)
    one = Churn("", Material([], 0.5), 0, account := Account(), lambda _: None)
    with pytest.raises(ConnectionProblem) as problem:
        asyncio.run(one.client(0, lambda: False))
    assert problem.value.code == "encoder_failed"
    assert account.refused == 3


def test_rounds_have_no_seam_where_packets_end():
    steady = Steady("", Material([np.arange(1, 16_009, dtype=np.int16)], 0.5), Account())
    length = len(steady._round)
    sent = b"".join(islice(steady._packets(), 3 * length // PACKET))
    assert length % PACKET
    assert sent == (3 * steady._round)[: len(sent)]
