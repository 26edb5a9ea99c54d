"""Several replicas on one machine, for `xlsr-live serve --replicas N`, in a Ray cluster of their own."""

from __future__ import annotations

import io
import logging
import math
import os
import signal
import tempfile
import threading
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, Final, cast

from msgspec.structs import replace

from ...streaming.errors import EngineError
from ..logs import configure_logging
from ..models.candidate import Load
from ..net.sockets import bound_sockets, page_url, websocket_url
from ..operations.systemd import notify_systemd
from ..run import warn_if_open
from ..settings import ServerSettings, check_replicable
from .environment import end_proxies, haproxy_binary, local_environment, require_ray

ROUTED_S: Final = 60.0  # until the proxy knows the replicas
STORE_BYTES: Final = 80 << 20  # of Ray's object store, which nothing uses


def serve_replicas(settings: ServerSettings, load: Load) -> None:
    """Serve until SIGINT or SIGTERM, then finish open utterances.

    Raises `ConfigError`, `EngineError`, and `ModuleNotFoundError` if Ray is not installed.
    """
    require_ray()
    check_replicable(settings)
    configure_logging(settings)
    warn_if_open(settings)
    with bound_sockets(settings) as (settings, _):  # a taken port shows at once
        pass
    with tempfile.TemporaryDirectory(prefix="xlsr-live-") as name:
        folder = Path(name)
        os.environ.update(local_environment(settings, folder))
        with _ray(settings, folder):
            from . import deployment  # imports ray.serve

            with _signals(folder) as stopped:
                deployment.deploy(settings, load)
                _wait_until_routed(settings)
                _announce(settings)
                stopped.wait()
                deployment.remove()


def _announce(settings: ServerSettings) -> None:
    import ray

    count = f"{settings.replicas} replicas" if settings.replicas > 1 else "1 replica"
    proxy = "HAProxy" if haproxy_binary() else "the Python proxy of Ray Serve"
    address = cast(Any, ray).get_runtime_context().gcs_address
    url, page = websocket_url(settings), page_url(settings)
    print(f"xlsr-live is ready: {url} ({count} behind {proxy}, Ray at {address}); in a browser: {page}", flush=True)
    notify_systemd("READY=1")


@contextmanager
def _ray(settings: ServerSettings, folder: Path) -> Generator[None]:
    import ray
    from ray import serve

    most = settings.max_replicas or settings.replicas
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        ray.init(
            address="local",
            num_cpus=max(os.cpu_count() or 1, math.ceil((most + 1) * settings.replica_cpus)),  # one more for updates
            include_dashboard=settings.ray_dashboard,
            dashboard_host="127.0.0.1",
            object_store_memory=STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # Ray raises all kinds, also `Exception`
        raise EngineError(f"Ray does not start: {error}") from error
    try:
        yield
    finally:
        try:
            with redirect_stderr(io.StringIO()):  # Ray reports the end of its own processes as errors
                serve.shutdown()
                ray.shutdown()
        finally:
            end_proxies(folder)


@contextmanager
def _signals(folder: Path) -> Generator[threading.Event]:
    """An event that the first signal sets; a second signal ends the program at once. Enter it after Ray has set its own
    handlers.
    """
    stopped = threading.Event()

    def receive(number: int, _: Any) -> None:
        if stopped.is_set():
            end_proxies(folder)
            os._exit(128 + number)
        stopped.set()

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_until_routed(settings: ServerSettings) -> None:
    host = settings.host if settings.host not in ("0.0.0.0", "::") else "127.0.0.1"
    url = page_url(replace(settings, host=host)) + "healthz"
    deadline = time.monotonic() + ROUTED_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise EngineError(f"the proxy of Ray Serve does not answer at {url}")
