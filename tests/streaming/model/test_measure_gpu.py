"""The program that measures a GPU, on a CPU with a tiny model, and its simulation of live streams."""

from __future__ import annotations

import json

import pytest
import torch

from tests.figures.gpu_streams import arrivals, most_streams, simulated
from tests.figures.gpu_times import PassTime, StepTime
from tests.figures.measure_gpu import run


def test_the_program_measures_every_figure():
    before, lines = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        report = run(
            ["tiny"], torch.device("cpu"), torch.bfloat16, max_batch=2, seconds=0.5, repeats=1, write=lines.append
        )
    finally:
        torch.set_num_threads(before)
    found = json.loads(json.dumps(report.data))["tiny"]
    assert [step["batch"] for step in found["steps"]] == [1, 2]
    assert {each["length"] for each in found["passes"]} >= {1, 20}
    assert all(seconds > 0 for seconds in found["stages_s"].values())
    assert found["loads"][-1]["streams"] >= 1
    assert any("no GPU is used" in line for line in lines)


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
