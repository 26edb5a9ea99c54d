"""`python -m tests.load.soak`: a short run, and the limits of each verdict."""

from __future__ import annotations

import asyncio
import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from xlsr_live.client.bench.streams import Playlist
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

from tests.load import churn_clients
from tests.load.churn_clients import ChurnClients
from tests.load.ledger import EventCounter, Ledger
from tests.load.program import run_program
from tests.load.realtime_client import PACKET, RealtimeClient, differences
from tests.load.server_process import server_process
from tests.load.soak import soak
from tests.load.soak_result import ServerSample, SoakResult
from tests.support.paths import CLIPS, DIGITS


@pytest.mark.slow
def test_a_short_soak(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    samples = soundfile.read(CLIPS / "george.flac", dtype="int16")[0]
    soundfile.write(tmp_path / "two.wav", samples[:32_000], 16_000)
    (tmp_path / "two.txt").write_text("one two")
    arguments = [str(tmp_path), "--hours", "0.02", "--clients", "3", "--memory", "50"]
    status = run_program(soak, [*arguments, "--model", str(DIGITS), "--out", str(tmp_path / "out")])
    printed = capsys.readouterr()
    report: dict[str, Any] = json.loads((tmp_path / "out" / "soak.json").read_text())
    (memory, latency, counters, drift) = report["wrong"].values()
    assert (memory, counters, drift) == ([], [], [])
    assert status == bool(latency)  # a short run may have too few events for this verdict
    assert report["account"]["sessions"] >= 4
    assert report["account"]["audio_s"] + report["account"]["left_s"] > 72
    assert "min left" in printed.err
    assert "Promises" in printed.out


def test_a_server_that_does_not_start_gives_the_reason():
    with pytest.raises(XlsrLiveError, match=r"ended with status 2: .*--no-such"), server_process(["--no-such"]):
        raise AssertionError("it started")


def result(mib: list[float], lags: list[float]) -> SoakResult:
    """One sample and one lag in each twentieth."""
    samples = [ServerSample(number / 20, float(number), each, 0.0) for number, each in enumerate(mib)]
    each = [(number / 20, lag) for number, lag in enumerate(lags)]
    return SoakResult(3600, samples, each, each)


def test_memory_may_grow_before_the_first_tenth_and_then_by_five_percent():
    assert not result([100, 200, 300, 310, *[315] * 16], [0.1] * 20).memory_growth(5)
    assert result([100, 200, 300, 310, *[316] * 16], [0.1] * 20).memory_growth(5)
    assert result([100, 200], []).memory_growth(5)


def test_latency_may_vary_and_not_grow():
    assert not result([], [0.9, 0.9, *[0.1] * 12, *[0.14] * 6]).latency_growth(50)
    assert result([], [*[0.1] * 14, *[0.3] * 6]).latency_growth(50)
    assert result([], [0.1] * 10).latency_growth(50)


def correct_metrics(ledger: Ledger) -> dict[str, float]:
    """The metrics of a server that counts correctly."""
    counts: dict[str, float] = dict.fromkeys(
        [
            *("sessions_open", "queue_depth", "dropped_samples_total", "engine_failures_total"),
            *("engine_restarts_total", "partials_coalesced_total", "pass_seconds_count"),
        ],
        0,
    )
    counts |= {
        'sessions_total{"dialect": "native"}': ledger.sessions,
        "resumed_total": ledger.resumed,
        "audio_seconds_total": ledger.audio_s,
        "speech_seconds_total": ledger.speech_s,
        "encoded_seconds_total": 3 * ledger.speech_s,
        "finals_total": ledger.finals,
        "final_lag_seconds_count": ledger.finals,
        "partials_total": ledger.partials,
        "partial_lag_seconds_count": ledger.partials,
        "batch_size_sum": 7,
        "step_seconds_count": 7,
    }
    return {f"xlsr_live_{name}": value for name, value in counts.items()}


def test_counters_that_differ_from_the_ledger_are_reported():
    ledger = Ledger(resumed=1)
    counter = EventCounter(ledger)
    for event in (
        SessionStarted(session="s", model="m", mode="cached"),
        SpeechStarted(utterance=0, start=0.5),
        Partial(utterance=0, committed="A", volatile="", words=(), audio_s=1.0, lag_ms=0.0),
        Final(utterance=0, text="A", words=(), start=0.5, end=2.0, confidence=1.0),
        SpeechEnded(utterance=0, end=2.0, reason="silence"),
        SessionEnded(audio_s=4.0, utterances=1),
    ):
        counter.count(event)
    right = correct_metrics(ledger)
    assert ledger.differences(right) == []
    for name, value in right.items():
        if name.endswith(("coalesced_total", "pass_seconds_count", "step_seconds_count")):
            continue
        found = ledger.differences(right | {name: value - 1 if "encoded" not in name else 0})
        assert any(name.removeprefix("xlsr_live_").partition("{")[0][:12] in line for line in found), (name, found)
    assert ledger.differences(right | {'xlsr_live_errors_total{"code": "bad_audio"}': 1.0})
    ledger.left, ledger.left_s = 1, 8.0  # the server may have counted more
    assert ledger.differences(right | {"xlsr_live_audio_seconds_total": 12.0}) == []
    assert ledger.differences(right | {"xlsr_live_audio_seconds_total": 12.1})
    ledger.errors.update(["overloaded", "encoder_failed"])
    assert ledger.unexpected == ["1 times the error encoder_failed"]


def test_finals_that_differ_on_the_idle_server_are_reported():
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
    codes = iter(["server_full", "overloaded", "encoder_failed"])

    async def refused(*_: object) -> None:
        raise ConnectionProblem("no", code=next(codes), status=503)

    monkeypatch.setattr(ChurnClients, "_run_session", refused)
    monkeypatch.setattr(churn_clients, "RETRY_S", 0.0)
    clients = ChurnClients("", Playlist([], 0.5), 0, ledger := Ledger(), lambda _: None)
    with pytest.raises(ConnectionProblem) as problem:
        asyncio.run(clients.run_client(0, lambda: False))
    assert problem.value.code == "encoder_failed"
    assert ledger.refused == 3


def test_rounds_join_without_a_gap():
    client = RealtimeClient("", Playlist([np.arange(1, 16_009, dtype=np.int16)], 0.5), Ledger())
    length = len(client._round)
    sent = b"".join(islice(client._packets(), 3 * length // PACKET))
    assert length % PACKET
    assert sent == (3 * client._round)[: len(sent)]
