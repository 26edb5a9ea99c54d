"""What whoever runs a server sees: metrics, readiness, the log, the watchdog, the capacity."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from xlsr_live.server import logs
from xlsr_live.server.models import capacity
from xlsr_live.server.models.watchdog import MAX_FAILED_PROBES, PROBE_INTERVAL, Watchdog
from xlsr_live.server.operations import metrics as exporter
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.overload import Level
from xlsr_live.streaming.protocol.events import Error, Event, Final, SessionEnded
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.engine_model import LIMIT, Clock, Hanging, Model
from tests.support.fake_recognizer import FakeEngine, FakeRecognizer
from tests.support.paths import ROOT
from tests.support.serving import AUDIO, get, metrics, refused, serving
from tests.support.wire import END, dial, listen, settles, talk

DOCS = ROOT / "docs"


def test_the_numbers_of_a_conversation(recognizer: Recognizer, clip: Callable[[str], NDArray[np.int16]]):
    with running_server(recognizer) as server:
        before = metrics(server)
        samples = clip("george")
        heard = asyncio.run(
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
    assert grown["xlsr_live_finals_total"] == len(heard.finals) == 1
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


def test_metrics_are_behind_the_token():
    with serving(token="s3cret") as server:
        assert get(server, "/metrics").status_code == 401
        answer = get(server, "/metrics", Authorization="Bearer s3cret")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch):
    cuda = SimpleNamespace(mem_get_info=lambda: (3, 4), memory_allocated=lambda: 1, memory_reserved=lambda: 2)
    monkeypatch.setitem(exporter.sys.modules, "torch", SimpleNamespace(cuda=cuda))
    recognizer = FakeRecognizer()
    recognizer.info = type(recognizer.info)(device="cuda")
    with serving(recognizer) as server:
        found = {name: value for name, value in metrics(server).items() if "gpu" in name}
    kinds = ("allocated", "reserved", "free", "total")
    wanted = {
        f'xlsr_live_gpu_memory_bytes{{"kind": "{kind}"}}': value
        for kind, value in zip(kinds, (1, 2, 3, 4), strict=True)
    }
    assert found == wanted


def test_a_gpu_that_has_failed_leaves_the_other_numbers(monkeypatch: pytest.MonkeyPatch):
    def fail() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setitem(exporter.sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(mem_get_info=fail)))
    recognizer = FakeRecognizer()
    recognizer.info = type(recognizer.info)(device="cuda")
    recognizer.engine.sound = False
    with serving(recognizer) as server:
        assert metrics(server)["xlsr_live_ready"] == 0


def test_every_metric_of_the_dashboard_exists():
    dashboard = json.loads((DOCS / "deploy" / "grafana.json").read_text())
    with serving() as server:
        known = {re.sub(r"{.*", "", name) for name in metrics(server)}
        text = get(server, "/metrics").text
    known |= {name + "_total" for name in re.findall(r"# TYPE (\S+)_total counter", text)}
    known |= {"xlsr_live_gpu_memory_bytes"}  # with a GPU
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    used = set(re.findall(r"xlsr_live_\w+", " ".join(asked)))
    assert len(used) > 15
    assert used <= known


def test_every_metric_is_in_the_documents():
    with serving() as server:
        families = set(re.findall(r"# TYPE (\S+) ", get(server, "/metrics").text)) | {"xlsr_live_gpu_memory_bytes"}
    documented = set(re.findall(r"^\| `(xlsr_live_\w+)`", (DOCS / "server.md").read_text(), re.MULTILINE))
    assert documented == families


# ── readiness ──


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"alive": False}, ["stopped"]),
        ({"sound": False}, ["failing"]),
        ({"working_s": 31.0}, ["stalled"]),
        ({"searching_s": 31.0}, ["stalled"]),
        ({"level": Level.FINALS}, ["overloaded"]),
        ({"level": Level.SHORT, "working_s": 29.0, "queued": 99}, []),
    ],
)
def test_readiness_says_why_not(state: dict[str, Any], why: list[str]):
    with serving(FakeRecognizer(engine=FakeEngine(**state))) as server:
        answer = get(server, "/readyz")
        assert (answer.status_code, answer.json()["why"]) == (503 if why else 200, why)
        assert get(server, "/healthz").status_code == 200
        assert metrics(server)["xlsr_live_ready"] == (not why)


def test_a_full_server_and_a_draining_one_are_not_ready():
    async def scene(server: RunningServer) -> None:
        async with dial(server.url) as websocket:
            await websocket.send(AUDIO)
            await websocket.recv()
            answer = await asyncio.to_thread(get, server, "/readyz")
            assert (answer.status_code, answer.json()["why"]) == (503, ["full"])
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(server.sessions.drain(5), server.loop))
        assert (await asyncio.to_thread(get, server, "/readyz")).json()["why"] == ["draining"]

    with serving(max_sessions=1) as server:
        asyncio.run(scene(server))


def test_a_server_with_too_much_to_do_refuses_and_says_when_to_come_back():
    engine = FakeEngine(level=Level.FINALS)
    with serving(FakeRecognizer(engine=engine)) as server:
        assert refused(server) == (503, "overloaded")
        assert metrics(server)['xlsr_live_refused_total{"reason": "overloaded"}'] == 1
        engine.level = Level.SHORT
        assert asyncio.run(talk(server.url, [AUDIO, END])).finals == ["3200"]


def test_too_much_to_do_between_the_handshake_and_the_start():
    engine = FakeEngine()

    async def scene(server: RunningServer) -> tuple[list[Event], int | None]:
        async with dial(server.url) as websocket:
            engine.level = Level.FINALS
            await websocket.send(AUDIO)
            return await listen(websocket), websocket.close_code

    with serving(FakeRecognizer(engine=engine)) as server:
        (error,), code = asyncio.run(scene(server))
    assert isinstance(error, Error)
    assert (error.code, code) == ("overloaded", 1013)


# ── the watchdog ──


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    model = Hanging(1)
    yield model
    model.freed.set()


def test_the_watchdog_replaces_a_worker_that_hangs_and_asks_the_new_one(hanging: Hanging):
    clock = Clock()
    engine = Engine(hanging, clock=clock)
    watchdog = Watchdog(engine, stall_s=60)
    stuck = engine.submit(np.ones(400, np.float32), deadline=0)
    assert hanging.hung.acquire(timeout=LIMIT)
    clock.now = 60.0
    watchdog.check()
    assert not stuck.done()
    assert engine.sound
    clock.now = 60.1
    watchdog.check()
    assert stuck.exception(0) is not None
    watchdog._probe.result(LIMIT)  # nobody else asked, and yet it is known to answer
    assert engine.sound
    before = engine.counters.pass_waits.count
    watchdog.check()
    assert engine.counters.pass_waits.count == before  # no need to ask again
    engine.close()


def test_an_encoder_that_fails_is_asked_again_and_again_until_it_answers():
    broken = threading.Event()
    broken.set()

    def fail(batch: list[int]) -> None:
        if broken.is_set():
            raise RuntimeError("the device is gone")

    model = Model(act=fail)
    model.go.set()
    engine = Engine(model)
    watchdog = Watchdog(engine, stall_s=60)
    for _ in range(3):
        engine.submit(np.ones(400, np.float32), deadline=0).exception(LIMIT)
    assert not engine.sound
    for look in range(2 * PROBE_INTERVAL):
        watchdog.check()
        assert (watchdog._probe is None) == (look < PROBE_INTERVAL - 1)
        if watchdog._probe is not None:
            watchdog._probe.exception(LIMIT)
    assert engine.counters.failures == 3 + 2
    broken.clear()
    for _ in range(PROBE_INTERVAL):
        watchdog.check()
    watchdog._probe.result(LIMIT)
    assert engine.sound
    engine.close()


def test_an_encoder_that_never_answers_again_is_given_up():
    """What a GPU does after an illegal access, until its process ends."""
    asked: list[int] = []

    def fail(batch: list[int]) -> None:
        asked.extend(batch)
        if len(asked) != 3 + MAX_FAILED_PROBES // 2:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    model = Model(act=fail)
    model.go.set()
    engine = Engine(model)
    watchdog = Watchdog(engine, stall_s=60)

    def fail_and_look(probes: int) -> None:
        for _ in range(3):
            engine.submit(np.ones(400, np.float32), deadline=0).exception(LIMIT)
        for _ in range(probes * PROBE_INTERVAL):
            watchdog.check()
            if watchdog._probe is not None:
                watchdog._probe.exception(LIMIT)

    fail_and_look(MAX_FAILED_PROBES)  # one of them is answered
    watchdog.check()
    assert engine.sound
    fail_and_look(MAX_FAILED_PROBES)
    assert engine.alive
    fail_and_look(1)
    assert not engine.alive


def test_sessions_go_on_when_the_encoder_hangs(recognizer: Recognizer, clip: Callable[[str], NDArray[np.int16]]):
    """One live step never returns: the final comes all the same, and says what it always says."""
    freed, hung = threading.Event(), threading.Event()
    encoder = recognizer.encoder

    class Sometimes:
        def __getattr__(self, name: str) -> Any:
            return getattr(encoder, name)

        def advance(self, batch: Any) -> Any:
            if not hung.is_set():
                hung.set()
                assert freed.wait(LIMIT)
                raise RuntimeError("too late")
            return encoder.advance(batch)

    async def scene(server: RunningServer) -> list[Event]:
        async with dial(server.url) as websocket:
            await websocket.send(clip("george").tobytes())
            await asyncio.to_thread(hung.wait, LIMIT)
            await websocket.send(END)
            return await listen(websocket)

    other = Recognizer(Sometimes(), recognizer.assets)  # type: ignore[arg-type]
    try:
        with running_server(other, ServerSettings(stall_s=0.3)) as server:
            events = asyncio.run(scene(server))
            assert settles(lambda: get(server, "/readyz").status_code, 200)
            assert metrics(server)["xlsr_live_engine_restarts_total"] == 1
    finally:
        freed.set()
        other.close()
    assert [event.code for event in events if isinstance(event, Error)] == ["encoder_failed"]
    assert [event.text for event in events if isinstance(event, Final)] == ["ONE TWO NINE FOUR EIGHT ONE"]
    assert isinstance(events[-1], SessionEnded)


# ── the log ──


def test_a_line_of_text_and_a_line_of_json():
    record = logging.makeLogRecord(
        {"name": "xlsr_live.server", "levelno": 20, "levelname": "INFO", "msg": "ended", **logs.fields(audio_s=1.5)}
    )
    token = logs.session.set("9f86d081")
    try:
        assert logs.TextFormatter().format(record).endswith(" INFO xlsr_live.server [9f86d081]: ended audio_s=1.5")
        line = json.loads(logs.JsonFormatter().format(record))
    finally:
        logs.session.reset(token)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", line.pop("time"))
    about = {"level": "info", "logger": "xlsr_live.server", "session": "9f86d081"}
    assert line == {**about, "message": "ended", "audio_s": 1.5}


@pytest.mark.parametrize(
    "secret",
    [
        "Authorization: Bearer abc.DEF-1=",
        "/v1/stream?ticket=abc_1",
        "bearer abc",
        "xlsr-live.ticket.abc-1",
        "resume=abc",
    ],
)
def test_secrets_are_cut_out_of_every_line(secret: str):
    try:
        raise RuntimeError(f"cannot take {secret} now")
    except RuntimeError:
        record = logging.getLogger("x").makeRecord("x", 40, "f", 1, f"bad: {secret}", (), __import__("sys").exc_info())
    for formatter in (logs.TextFormatter(), logs.JsonFormatter()):
        line = formatter.format(record)
        assert "abc" not in line
        assert line.count("***") >= 2


def test_the_log_of_a_session_has_its_name_and_nothing_of_what_was_said(
    recognizer: Recognizer, clip: Callable[[str], NDArray[np.int16]]
):
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logs.JsonFormatter())
    root = logging.getLogger("xlsr_live")
    root.addHandler(handler)
    level, _ = root.level, root.setLevel(logging.DEBUG)
    try:
        with running_server(recognizer, ServerSettings(token="s3cret")) as server:
            data, allowed = clip("george").tobytes(), {"Authorization": "Bearer s3cret"}
            said = ['{"type":"start","config":{"hotwords":["TWO NINE"]}}', data, '{"type":"oops"}']
            heard = asyncio.run(talk(server.url, said, additional_headers=allowed))
            assert settles(lambda: server.sessions.count, 0)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert heard.finals == ["ONE TWO NINE FOUR EIGHT ONE"]
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    mine = [line for line in lines if line["logger"] == "xlsr_live.server"]
    assert [line["message"] for line in mine] == ["connected", "closing", "ended"]
    assert {line["session"] for line in mine} == {heard.events[0].session}
    assert mine[0]["client"] == "token"
    assert mine[1]["code"] == "unknown_type"
    assert mine[2]["audio_s"] == pytest.approx(len(data) / 32_000, abs=0.01)
    for said_or_secret in ("NINE", "s3cret", "AAAA"):
        assert said_or_secret not in written.getvalue()


# ── the capacity ──


def test_the_capacity_is_measured_once_for_each_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer
):
    measured: list[str] = []
    now = 1_000_000.0
    monkeypatch.setattr(capacity.time, "time", lambda: now)
    monkeypatch.setattr(capacity, "measure", lambda one: measured.append(one.info.name) or len(measured) * 10)
    assert [capacity.capacity(recognizer, tmp_path) for _ in range(2)] == [10, 10]
    other: Any = SimpleNamespace(
        info=recognizer.info.__class__(
            **{**{f: getattr(recognizer.info, f) for f in recognizer.info.__struct_fields__}, "name": "other"}
        ),
        engine=recognizer.engine,
        assets=recognizer.assets,
    )
    assert capacity.capacity(other, tmp_path) == 20
    assert capacity.capacity(recognizer, tmp_path) == 10
    now += 31 * 86_400
    assert capacity.capacity(recognizer, tmp_path) == 30
    (tmp_path / "capacity.json").write_text('{"x": 5}')
    assert capacity.capacity(recognizer, tmp_path) == 40
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert capacity.capacity(recognizer, blocked) == 50  # nowhere to remember it: measured all the same


def test_the_capacity_is_measured_again_for_whatever_it_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer
):
    measured: list[int] = []
    monkeypatch.setattr(capacity, "measure", lambda one: measured.append(0) or len(measured))
    assert capacity.capacity(recognizer, tmp_path) == 1
    for number, (name, value) in enumerate({"_threads": 99, "processors": 0.5, "_processor": "abacus"}.items(), 2):
        monkeypatch.setattr(capacity, name, lambda value=value: value)
        assert capacity.capacity(recognizer, tmp_path) == number
    searching: Any = SimpleNamespace(
        info=recognizer.info, engine=recognizer.engine, assets=SimpleNamespace(language_model=SimpleNamespace(words=9))
    )
    assert capacity.capacity(searching, tmp_path) == 5


def test_threads_beyond_the_processors_carry_nobody(monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer):
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
def test_the_processors_that_a_container_may_use(
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
