"""The capacity: measured once for each set of conditions, within the CPU limit of a container."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from xlsr_live.server.models import capacity
from xlsr_live.streaming.recognizer import Recognizer


def test_the_capacity_is_measured_once_for_each_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer
):
    measured: list[str] = []
    now = 1_000_000.0
    monkeypatch.setattr(capacity.time, "time", lambda: now)
    monkeypatch.setattr(capacity, "measure", lambda one, fronts: measured.append(one.info.name) or len(measured) * 10)
    assert [capacity.capacity(recognizer, tmp_path) for _ in range(2)] == [10, 10]
    other: Any = SimpleNamespace(
        info=recognizer.info.__class__(
            **{**{f: getattr(recognizer.info, f) for f in recognizer.info.__struct_fields__}, "name": "other"}
        ),
        engine=recognizer.engine,
        assets=recognizer.assets,
        room=None,
    )
    assert capacity.capacity(other, tmp_path) == 20
    assert capacity.capacity(recognizer, tmp_path) == 10
    now += 31 * 86_400
    assert capacity.capacity(recognizer, tmp_path) == 30
    (tmp_path / "capacity.json").write_text('{"x": 5}')
    assert capacity.capacity(recognizer, tmp_path) == 40
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert capacity.capacity(recognizer, blocked) == 50  # cannot be cached: measured again


def test_the_capacity_is_measured_again_when_its_conditions_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer
):
    measured: list[int] = []
    monkeypatch.setattr(capacity, "measure", lambda one, fronts: measured.append(0) or len(measured))
    assert capacity.capacity(recognizer, tmp_path) == 1
    for number, (name, value) in enumerate({"_threads": 99, "processors": 0.5, "_processor": "abacus"}.items(), 2):
        monkeypatch.setattr(capacity, name, lambda value=value: value)
        assert capacity.capacity(recognizer, tmp_path) == number
    with_lm: Any = SimpleNamespace(
        info=recognizer.info,
        engine=recognizer.engine,
        assets=SimpleNamespace(language_model=SimpleNamespace(words=9)),
        room=None,
    )
    assert capacity.capacity(with_lm, tmp_path) == 5


def test_threads_above_the_number_of_cpus_add_no_capacity(monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer):
    async def round_(*_: object) -> None:
        pass

    seconds = iter(range(100))
    monkeypatch.setattr(capacity, "_round", round_)
    monkeypatch.setattr(capacity, "_threads", lambda: 64)
    monkeypatch.setattr(capacity, "processors", lambda: 2.5)
    monkeypatch.setattr(capacity.time, "process_time", lambda: next(seconds))
    assert capacity.measure(recognizer, audio_s=10.0) == int(capacity.MARGIN * 2.5 * capacity.CPU_STREAMS * 10)


@pytest.mark.parametrize(
    ("own", "quotas", "processors"),
    [
        ("0::/\n", {"": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"a": "50000 100000", "a/b": "max 100000"}, 0.5),
        ("0::/a/b\n", {"a": "max 100000"}, 64.0),
        ("1:cpu:/a\n", {"a": "50000 100000"}, 64.0),
        (None, {}, 64.0),
    ],
)
def test_a_container_limits_the_cpus(
    own: str | None, quotas: dict[str, str], processors: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(capacity.os, "sched_getaffinity", lambda _: range(64), raising=False)
    if own is not None:
        (tmp_path / "own").write_text(own)
    for folder, quota in quotas.items():
        (tmp_path / "root" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / folder / "cpu.max").write_text(quota)
    assert capacity.processors(tmp_path / "own", tmp_path / "root") == processors


def test_a_short_measurement(recognizer: Recognizer):
    assert capacity.measure(recognizer, audio_s=1.0, rounds=1) >= 1


def test_the_memory_for_caches_limits_the_sessions(
    monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer, caplog: pytest.LogCaptureFixture, tmp_path: Path
):
    monkeypatch.setattr(Recognizer, "room", 3)
    monkeypatch.setattr(capacity, "measure", lambda recognizer, fronts: 9)
    assert capacity.capacity(recognizer, tmp_path) == 3
    assert capacity.capacity(recognizer, tmp_path) == 3  # remembered
    monkeypatch.setattr(Recognizer, "room", 7)
    assert capacity.capacity(recognizer, tmp_path) == 7
    monkeypatch.setattr(Recognizer, "room", 3)
    caplog.clear()
    capacity.warn_if_crowded(3, recognizer)
    assert not caplog.records
    capacity.warn_if_crowded(4, recognizer)
    assert "max_sessions is 4, but the memory for live utterances is enough for 3" in caplog.text
