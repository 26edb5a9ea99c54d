"""The program that measures a GPU, on a CPU with a tiny model, and its simulation of live streams."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.engine.engine import Engine

from tests.figures import measure_gpu
from tests.figures.gpu_steps import STEPS, Bench
from tests.figures.gpu_streams import arrivals, most_streams, paced, simulated
from tests.figures.gpu_times import PassTime, StepTime
from tests.figures.measure_gpu import Figures, peak, run
from tests.support import random_xlsr


def bench() -> Bench:
    return Bench("tiny", torch.device("cpu"), torch.bfloat16, 2, seconds=0.5, repeats=1, streams=(4, 6), graphs=8)


def test_the_program_measures_every_figure(tmp_path: Path):
    lines: list[str] = []
    figures = Figures(tmp_path / "gpu.jsonl", {"device": "CPU"}, lines.append)
    assert run(figures, [bench()], math.inf, restart=list)
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in map(json.loads, (tmp_path / "gpu.jsonl").read_text().splitlines()):
        found[line["step"]].append(line)
    assert found.keys() == STEPS.keys()
    for each in found.values():
        assert each[-1]["ended"] == "done", each[-1]
        assert len(each) > 1
    assert len(lines) == sum(map(len, found.values()))
    assert [line["batch"] for line in found["steps"][:-1]] == [1]
    assert found["steps"][0]["top"]
    assert all(line["right"] for line in found["gathers"][:-1])
    ways = {line["way"]: line["error"] for line in found["positions"][:-1]}
    assert ways.keys() == {"now", "channels_last", "windows"}
    assert ways["windows"] < 0.01  # processors with AMX compute the others wrongly: `layers._exact_weights`
    assert all(line["error"] < 0.02 and line["same_tokens"] > 0.9 for line in found["checks"][:-1])
    assert {line["length"] for line in found["passes"][:-1]} >= {1, 20}
    errors = [value for line in found["packed"] for name, value in line.items() if name.startswith("error_of")]
    assert len(errors) == 2
    assert max(errors) < 0.02
    for line in found["streams"][:-1]:
        assert line["answers"] > 0 == line["failed"] == line["cancelled"]


def test_it_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file, calls, restarts = tmp_path / "gpu.jsonl", list[str](), list[int]()

    def step(name: str, error: Exception | None = None) -> Callable[[Bench], Iterator[dict[str, Any]]]:
        def measure(_: Bench) -> Iterator[dict[str, Any]]:
            calls.append(name)
            yield {"figure": 1.5}
            if error:
                raise error

        return measure

    steps = {"good": step("good"), "bad": step("bad", RuntimeError("illegal\nmemory")), "last": step("last")}
    monkeypatch.setattr(measure_gpu, "STEPS", steps)
    one = bench()
    monkeypatch.setattr(Bench, "on_gpu", True)

    def again(*, retry: bool = False, device: str = "H200", until: float = math.inf) -> list[str]:
        calls.clear()
        figures = Figures(file, {"device": device}, lambda line: None, retry)
        run(figures, [one], until, restart=lambda: restarts.append(1))
        return list(calls)

    assert again(until=0) == []
    assert again() == ["good", "bad", "last"]
    assert len(restarts) == 1
    assert json.loads(file.read_text().splitlines()[3])["error"] == "RuntimeError: illegal"
    assert again() == []
    assert again(retry=True) == ["bad"]
    assert again(device="B200") == ["good", "bad", "last"]


def test_the_peaks_of_devices():
    names = {
        "NVIDIA H200": 989e12, "NVIDIA H200 NVL": 835e12, "NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H100 PCIe": 756e12,
        "NVIDIA H100 NVL": 835e12, "NVIDIA GH200 480GB": 989e12, "NVIDIA B200": 2_250e12,
        "NVIDIA A100-SXM4-80GB": 312e12, "NVIDIA L4": 121e12, "NVIDIA L40S": 362e12, "NVIDIA T4": None, "CPU": None,
    }  # fmt: skip
    assert {name: peak(name) for name in names} == names


def test_paced_streams_count_failures_apart(monkeypatch: pytest.MonkeyPatch):
    encoder = random_xlsr.encoder("tiny", torch.device("cpu"), torch.float32, max_batch=4)
    assert encoder.cached
    encoder.cached.caches._most_bytes = 3 * encoder.utterance_bytes(SessionConfig())
    engine = Engine(encoder)
    load = paced(engine, 8, 1.0, recall=True)
    engine.close()
    assert load.failed > 0 < load.answers
    assert load.cancelled == 0


def test_simulated_streams_have_the_declared_speech_and_queueing():
    due = list(arrivals(200, 60))
    assert due == sorted(due)
    spoken = sum(each.seconds for each in due if each.step < 0)
    assert spoken / (200 * 60) == pytest.approx(0.6, abs=0.06)
    free = [PassTime(seconds, 1, 0.0, None) for seconds in (1, 20)]
    # Steps of 10 ms, one at a time: a hop has room for 48, of streams that speak 60 % of the time.
    slow = [StepTime(1, 0.01, 0.01, None)]
    assert simulated(1, 30, slow, free).p50 == pytest.approx(0.01)
    found = most_streams(lambda streams: simulated(streams, 30, slow, free).p95 < 0.5)
    assert 55 <= found <= 85
    # Batches of four in the same time carry four times as many.
    batched = [StepTime(1, 0.01, 0.01, None), StepTime(2, 0.01, 0.01, None), StepTime(4, 0.01, 0.01, None)]
    four = most_streams(lambda streams: simulated(streams, 30, batched, free).p95 < 0.5)
    assert four == pytest.approx(4 * found, rel=0.2)
    assert most_streams(lambda streams: streams <= 37) == 37
    late = simulated(4 * found, 60, slow, free)
    assert late.p95 > 5
    assert late.busy == pytest.approx(1, abs=0.05)
