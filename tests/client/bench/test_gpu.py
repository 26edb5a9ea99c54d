"""`xlsr-live bench gpu` on a CPU: the same checks and measurements, without graphs and with a tiny model."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from xlsr_live.client.bench.gpu import gpu, run
from xlsr_live.client.bench.gpu_streams import arrivals, most_streams, simulated
from xlsr_live.client.bench.gpu_times import PassTime, StepTime
from xlsr_live.client.bench.random_xlsr import SIZES


def test_everything_is_checked_and_measured():
    before, said = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        report = run(
            ["tiny"], torch.device("cpu"), torch.bfloat16, max_batch=2, seconds=0.5, repeats=1, tell=said.append
        )
    finally:
        torch.set_num_threads(before)
    assert report.failed == 0
    found = json.loads(json.dumps(report.data))["tiny"]
    assert all(check["passed"] for check in found["checks"])
    assert [step["batch"] for step in found["steps"]] == [1, 2]
    assert {each["length"] for each in found["passes"]} >= {1, 20}
    assert all(seconds > 0 for seconds in found["stages_s"].values())
    assert found["loads"][-1]["streams"] >= 1
    assert any("no GPU is used" in line for line in said)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_gpu_the_command_says_so():
    result = CliRunner().invoke(gpu, ["--size", "300m"])
    assert result.exit_code == 1
    assert "no CUDA device" in result.output
    assert "--size tiny" in result.output


def test_sizes_are_the_published_ones():
    from tests.support.checkpoints import XLSR_1B, XLSR_2B, XLSR_300M

    for name, published in (("300m", XLSR_300M), ("1b", XLSR_1B), ("2b", XLSR_2B)):
        assert all(published[key] == value for key, value in SIZES[name].items())


def test_simulated_streams_speak_as_said_and_queue_as_they_must():
    due = list(arrivals(200, 60))
    assert due == sorted(due)
    spoken = sum(each.seconds for each in due if each.step < 0)
    assert spoken / (200 * 60) == pytest.approx(0.6, abs=0.06)
    free = [PassTime(seconds, 1, 0.0, None) for seconds in (1, 20)]
    # One at a time and 10 ms each: 48 such steps a hop are as many as can be, of streams that speak 60 % of the time.
    slow = [StepTime(1, 0.01, 0.01, None)]
    assert simulated(1, 30, slow, free).p50 == pytest.approx(0.01)
    found = most_streams(lambda streams: simulated(streams, 30, slow, free).p95 < 0.5)
    assert 55 <= found <= 85
    # Batches of four that take no longer carry four times as many.
    batched = [StepTime(1, 0.01, 0.01, None), StepTime(2, 0.01, 0.01, None), StepTime(4, 0.01, 0.01, None)]
    four = most_streams(lambda streams: simulated(streams, 30, batched, free).p95 < 0.5)
    assert four == pytest.approx(4 * found, rel=0.2)
    assert most_streams(lambda streams: streams <= 37) == 37
    late = simulated(4 * found, 60, slow, free)
    assert late.p95 > 5
    assert late.busy == pytest.approx(1, abs=0.05)
