"""The parts of a cluster, without Ray."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import HTTPConnection
from xlsr_live.client.cli import run
from xlsr_live.server.cluster import environment, tuning
from xlsr_live.server.cluster.metrics import merged
from xlsr_live.server.cluster.replica import ServerReplica, before_stopping
from xlsr_live.server.cluster.scaling import BUSY, policy, replicas
from xlsr_live.server.net.connections import websocket_options
from xlsr_live.server.refusals import Refused
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.errors import ConfigError, EngineError
from xlsr_live.streaming.overload import Level

from tests.support.fake_recognizer import FakeRecognizer

# ── how many replicas ──


@given(st.integers(1, 20), st.integers(1, 100), st.data())
@settings(deadline=None)
def test_there_are_enough_replicas_and_they_leave_one_by_one(now: int, limit: int, data: st.DataObject):
    sessions = data.draw(st.integers(0, now * limit))
    wanted = replicas(now, sessions, [limit] * now)
    assert wanted >= now - 1
    assert wanted >= 1
    assert sessions <= wanted * limit, "some sessions would have no place"
    if wanted > now:
        assert sessions > BUSY * now * limit
    if wanted < now:
        assert replicas(wanted, sessions, [limit] * wanted) <= wanted, "it would grow again at once"


def test_the_number_stays_within_its_limits_and_without_reports():
    def context(sessions: float, reports: int = 2) -> SimpleNamespace:
        metrics = {"sessions": dict.fromkeys(range(reports), sessions), "limit": dict.fromkeys(range(reports), 10.0)}
        return SimpleNamespace(
            aggregated_metrics=metrics,
            target_num_replicas=2,
            capacity_adjusted_min_replicas=2,
            capacity_adjusted_max_replicas=3,
        )

    assert policy(context(9)) == (3, {})
    assert policy(context(10_000)) == (3, {})
    assert policy(context(0)) == (2, {})
    assert policy(context(0, reports=0)) == (2, {})


# ── metrics ──


def test_metrics_of_all_replicas_are_one_page_with_labels():
    def report(name: str, value: float) -> tuple[str, list[Any]]:
        refused = CounterMetricFamily("xlsr_live_refused", "Refused.", labels=("reason",))
        refused.add_metric(("server_full",), value)
        return name, [GaugeMetricFamily("xlsr_live_sessions_open", "Open.", value), refused]

    page = merged([report("b", 2), report("a", 1)]).decode()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    found = [(sample.labels, sample.value) for sample in families["xlsr_live_sessions_open"].samples]
    assert found == [({"replica": "a"}, 1), ({"replica": "b"}, 2)]
    found = [(sample.labels, sample.value) for sample in families["xlsr_live_refused"].samples]
    assert found == [({"reason": "server_full", "replica": name}, value) for name, value in (("a", 1), ("b", 2))]


# ── Serve's HTTP servers ──


def test_uvicorn_gets_the_options_of_the_first_call(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(uvicorn, "Config", uvicorn.Config)
    tuning.tune({**websocket_options(ServerSettings()), "ws_max_size": 4_321})
    assert len(tuning.middlewares()) == 1
    config = uvicorn.Config(lambda: None, factory=True, timeout_keep_alive=7)
    assert (config.ws_max_size, config.timeout_keep_alive) == (4_321, 7)
    assert (config.ws_per_message_deflate, config.ws_ping_timeout) == (False, None)


def test_serve_is_told_not_to_cancel_whatever_the_client_says():
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])

    sent = [(b"host", b"a"), (b"x-request-disconnect-disabled", b"?0")]
    asyncio.run(tuning.NeverCancelled(app)({"type": "websocket", "headers": sent}, None, None))
    assert seen == [(b"host", b"a"), (b"x-request-disconnect-disabled", b"?1")]


# ── variables and settings ──


def test_haproxy_keeps_open_sockets_as_long_as_a_session_may_last():
    settings = ServerSettings(max_session_s=1_000, grace_s=20)
    assert environment.serve_environment(settings, haproxy=True)["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] == "1020"
    assert not [name for name in environment.serve_environment(settings, haproxy=False) if "HAPROXY" in name]


def test_one_machine_gets_a_token_of_its_own_and_statistics_stay_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setattr(environment, "haproxy_binary", lambda: "/bin/echo")
    variables = environment.local_environment(ServerSettings(), tmp_path)
    other = environment.local_environment(ServerSettings(), tmp_path)
    assert variables["RAY_AUTH_MODE"] == "token"
    assert len(variables["RAY_AUTH_TOKEN"]) == 64
    assert variables["RAY_AUTH_TOKEN"] != other["RAY_AUTH_TOKEN"]
    config = tmp_path / "haproxy.cfg"
    config.write_text("frontend prometheus\n    bind :9101\nlisten stats\n  bind *:8404\n  bind 10.0.0.1:80\n")
    started = subprocess.run([variables["RAY_SERVE_HAPROXY_BINARY_PATH"], "-f", config], capture_output=True, text=True)
    assert started.stdout == f"-f {config}\n"
    bound = [line.split()[1] for line in config.read_text().splitlines() if "bind" in line]
    assert bound == ["127.0.0.1:9101", "127.0.0.1:8404", "10.0.0.1:80"]


@pytest.mark.parametrize(
    ("setting", "value"), [("vosk_port", 2700), ("wyoming_port", 10300), ("tls_cert", "a.pem"), ("max_replicas", 1)]
)
def test_settings_that_replicas_cannot_have_are_refused(capsys: pytest.CaptureFixture[str], setting: str, value: Any):
    flags = [f"--{setting.replace('_', '-')}", str(value)] + ["--tls-key", "a.key"] * (setting == "tls_cert")
    assert run(["serve", "--replicas", "2", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert setting in line


def test_max_replicas_alone_makes_a_cluster_of_one():
    assert ServerSettings(max_replicas=2).replicated
    assert not ServerSettings().replicated
    with pytest.raises(ConfigError, match="less than replicas"):
        ServerSettings(replicas=3, max_replicas=2)


@pytest.mark.parametrize("command", [["serve", "--replicas", "2"], ["cluster", "status"], ["cluster", "environment"]])
def test_without_ray_one_sentence_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: list[str]
):
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    assert run(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("needs the package ray, which is not installed: pip install 'xlsr-live[cluster]'")


def test_importing_the_server_and_the_command_line_imports_no_ray():
    code = "import sys, xlsr_live.server.run, xlsr_live.client.commands.cluster; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_a_cluster_reads_yaml_and_says_what_is_wrong_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("yaml")
    file = tmp_path / "server.yaml"
    print_config = partial(run, ["serve", "--config", str(file), "--print-config"])
    file.write_text("replicas: 2\nmax_replicas: 8\norigins: [https://example.org]\n")
    assert print_config() == 0
    assert f"max_replicas = 8  # {file}, line 2\n" in capsys.readouterr().out
    for text, problem in (
        ("replicas: two\n", "line 1: replicas is 'two'"),
        ("- replicas\n", "is not a list of settings"),
        ("a: [\n", "is not YAML"),
        ("\nreplica: 2\n", "line 2: there is no setting 'replica'; did you mean 'replicas'?"),
    ):
        file.write_text(text)
        assert print_config() == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert problem in line


# ── a replica ──


async def stop() -> None:
    """What Serve does to stop a replica."""


@pytest.fixture
def serve_replica(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Serve's own object around a replica, in a process of Ray."""
    found = SimpleNamespace(perform_graceful_shutdown=stop)
    worker = SimpleNamespace(actor_id=b"1", actors={b"1": SimpleNamespace(_replica_impl=found)})
    monkeypatch.setitem(sys.modules, "ray._private.worker", SimpleNamespace(global_worker=worker))
    monkeypatch.setattr(uvicorn, "Config", uvicorn.Config)
    monkeypatch.setattr("xlsr_live.server.cluster.replica.shared_key", lambda: b"k" * 32)
    monkeypatch.setattr("xlsr_live.server.cluster.replica.freeze_loaded", lambda: None)  # not of a test process
    return found


async def make_replica(recognizer: FakeRecognizer, **settings: Any) -> ServerReplica:
    replica = ServerReplica.__new__(ServerReplica)
    await replica.__init__(ServerSettings(max_sessions=3, **settings), lambda _: cast(Any, recognizer))
    return replica


def test_a_replica_is_ill_only_when_its_model_is(serve_replica: SimpleNamespace):
    async def scene() -> None:
        recognizer = FakeRecognizer()
        replica = await make_replica(recognizer)
        recognizer.engine.level = Level.FINALS  # overloaded is not ill
        await replica.check_health()
        assert replica.record_autoscaling_stats() == {"sessions": 0.0, "limit": 3.0}
        recognizer.engine.healthy = False
        with pytest.raises(EngineError, match="failing"):
            await replica.check_health()

    asyncio.run(scene())


def test_a_replica_does_not_change_its_model_alone(serve_replica: SimpleNamespace, tmp_path: Path):
    (tmp_path / "tokens.toml").write_text('[operator]\ntoken = "secret"\nadmin = true\n')

    async def scene() -> httpx.Response:
        replica = await make_replica(FakeRecognizer(), tokens_file=str(tmp_path / "tokens.toml"))
        transport = httpx.ASGITransport(replica.__serve_build_asgi_app__())
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            assert (await client.get("/readyz")).status_code == 200
            assert (await client.get("/metrics")).status_code == 401
            return await client.post("/v1/reload", headers={"authorization": "Bearer secret"})

    answer = asyncio.run(scene())
    assert (answer.status_code, answer.json()["code"]) == (500, "reload_failed")
    assert "xlsr-live cluster deploy" in answer.json()["message"]


def test_a_replica_drains_before_serve_stops_it(serve_replica: SimpleNamespace):
    done: list[str] = []

    async def stop() -> None:
        done.append("stopped")

    serve_replica.perform_graceful_shutdown = stop

    async def scene() -> None:
        replica = await make_replica(FakeRecognizer(), grace_s=5)
        stream = SimpleNamespace(name="a", leave=lambda s: done.append(f"move within {s:g} s") or True)
        with replica._sessions.registered(cast(Any, stream)):
            stopping = asyncio.create_task(serve_replica.perform_graceful_shutdown())
            await asyncio.sleep(0.01)
            with pytest.raises(Refused, match="shutting_down"):
                replica._admission.admit(HTTPConnection({"type": "http", "headers": [], "client": ("127.0.0.1", 1)}))
        await stopping

    asyncio.run(scene())
    assert done == ["move within 2.5 s", "stopped"]


def test_serve_stops_a_replica_even_if_its_drain_fails(serve_replica: SimpleNamespace):
    done: list[str] = []

    async def stop() -> None:
        done.append("stopped")

    async def failing() -> None:
        done.append("drained")
        raise RuntimeError("a bug")

    serve_replica.perform_graceful_shutdown = stop
    before_stopping(failing)
    asyncio.run(serve_replica.perform_graceful_shutdown())
    assert done == ["drained", "stopped"]


@pytest.mark.skipif(sys.platform != "linux", reason="HAProxy is used on Linux only")
def test_no_proxy_outlives_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(environment, "haproxy_binary", lambda: sys.executable)
    wrapper = environment.local_environment(ServerSettings(), tmp_path)["RAY_SERVE_HAPROXY_BINARY_PATH"]
    program = "print('runs', flush=True); import time; time.sleep(60)"
    command = [wrapper, "-c", program, str(tmp_path / "haproxy.cfg")]
    (tmp_path / "haproxy.cfg").touch()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        assert proxy.stdout.readline() == "runs\n"
        environment.end_proxies(tmp_path)
        assert proxy.wait(60) == -signal.SIGKILL
    environment.end_proxies(tmp_path)  # of processes that have ended
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as server:
        monkeypatch.setattr(environment.os, "getpid", lambda: server.pid)
        environment.local_environment(ServerSettings(), tmp_path)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
            assert proxy.stdout is not None
            assert proxy.stdout.readline() == "runs\n"
            server.kill()
            server.wait(60)
            assert proxy.wait(60) == -signal.SIGKILL
