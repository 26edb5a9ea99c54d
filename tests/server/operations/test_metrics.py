"""The metrics: their values after a session, the token, the GPU, the dashboard and the documentation."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from xlsr_live.server.models import memory as memory_module
from xlsr_live.server.run import running_server
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.fake_recognizer import FakeRecognizer
from tests.support.paths import ROOT
from tests.support.serving import get, metrics, refused, serving
from tests.support.wire import END, settles, talk

DOCS = ROOT / "docs"


def test_metrics_count_a_session(recognizer: Recognizer, clip: Callable[[str], NDArray[np.int16]]):
    with running_server(recognizer) as server:
        before = metrics(server)
        samples = clip("george")
        result = asyncio.run(
            talk(server.url, [samples[: len(samples) // 2].tobytes(), samples[len(samples) // 2 :].tobytes(), END])
        )
        assert settles(lambda: metrics(server)["xlsr_live_sessions_open"], 0.0)
        refused(server, "/nowhere")
        asyncio.run(talk(server.url, ["nonsense"]))
        after = metrics(server)
    grown = {name: after[name] - before.get(name, 0.0) for name in after}
    seconds = len(samples) / 16_000
    assert grown['xlsr_live_sessions_total{"dialect": "native"}'] == 1
    assert grown["xlsr_live_audio_seconds_total"] == pytest.approx(seconds)
    assert 0.5 * seconds < grown["xlsr_live_speech_seconds_total"] <= seconds
    assert grown["xlsr_live_finals_total"] == len(result.finals) == 1
    assert grown["xlsr_live_final_lag_seconds_count"] == 1
    assert grown["xlsr_live_partials_total"] == grown["xlsr_live_partial_lag_seconds_count"] > 3
    assert grown['xlsr_live_refused_total{"reason": "not_found"}'] == 1
    assert grown['xlsr_live_errors_total{"code": "not_json"}'] == 1
    assert grown["xlsr_live_pass_seconds_count"] >= 1
    assert grown["xlsr_live_step_seconds_count"] > 3
    assert (
        grown["xlsr_live_batch_size_sum"]
        == grown["xlsr_live_pass_seconds_count"] + grown["xlsr_live_step_seconds_count"]
    )
    assert grown["xlsr_live_encoded_seconds_total"] > seconds
    assert after["xlsr_live_dropped_samples_total"] == 0
    assert after["xlsr_live_ready"] == 1
    assert after["xlsr_live_queue_depth"] == 0


def test_metrics_need_the_token():
    with serving(token="s3cret") as server:
        assert get(server, "/metrics").status_code == 401
        answer = get(server, "/metrics", Authorization="Bearer s3cret")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_gpu_memory(monkeypatch: pytest.MonkeyPatch):
    memory = {"mem_get_info": (3, 4), "memory_allocated": 1, "memory_reserved": 2}
    cuda = SimpleNamespace(**{name: {"cuda:1": value}.__getitem__ for name, value in memory.items()})
    monkeypatch.setitem(memory_module.sys.modules, "torch", SimpleNamespace(cuda=cuda))
    recognizer = FakeRecognizer()
    recognizer.info = type(recognizer.info)(device="cuda:1")
    with serving(recognizer) as server:
        found = {name: value for name, value in metrics(server).items() if "gpu" in name}
    kinds = ("allocated", "reserved", "free", "total")
    wanted = {
        f'xlsr_live_gpu_memory_bytes{{"kind": "{kind}"}}': value
        for kind, value in zip(kinds, (1, 2, 3, 4), strict=True)
    }
    assert found == wanted


def test_a_broken_gpu_leaves_the_other_metrics(monkeypatch: pytest.MonkeyPatch):
    def fail(device: str) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setitem(memory_module.sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(mem_get_info=fail)))
    recognizer = FakeRecognizer()
    recognizer.info = type(recognizer.info)(device="cuda")
    recognizer.engine.healthy = False
    with serving(recognizer) as server:
        assert metrics(server)["xlsr_live_ready"] == 0


def test_every_metric_of_the_dashboard_exists():
    dashboard = json.loads((DOCS / "deploy" / "grafana.json").read_text())
    with serving() as server:
        known = {re.sub(r"{.*", "", name) for name in metrics(server)}
        text = get(server, "/metrics").text
    known |= {name + "_total" for name in re.findall(r"# TYPE (\S+)_total counter", text)}
    known |= {"xlsr_live_gpu_memory_bytes"}  # with a GPU
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    used = set(re.findall(r"xlsr_live_\w+", " ".join(expressions)))
    assert len(used) > 15
    assert used <= known


def test_every_metric_is_documented():
    with serving() as server:
        families = set(re.findall(r"# TYPE (\S+) ", get(server, "/metrics").text)) | {"xlsr_live_gpu_memory_bytes"}
    documented = set(re.findall(r"^\| `(xlsr_live_\w+)`", (DOCS / "server.md").read_text(), re.MULTILINE))
    assert documented == families
