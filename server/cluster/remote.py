"""The application on a running Ray cluster, for `xlsr-live cluster`."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from ...streaming.errors import ConfigError, EngineError
from ..models.candidate import Load
from ..run import warn_if_open
from ..settings import ServerSettings, check_replicable
from .environment import haproxy_binary, require_ray, serve_environment


def deploy_to(address: str, settings: ServerSettings, load: Load) -> str:
    """Deploy to the cluster, and return a sentence about it. Raises `ConfigError` and `EngineError`."""
    check_replicable(settings)
    warn_if_open(settings)
    with _connected(address, settings) as machines:
        if machines > 1 and settings.loopback:
            raise ConfigError(
                f"the cluster has {machines} machines, which cannot reach each other at {settings.host}: "
                "set host to 0.0.0.0, and a token"
            )
        from . import deployment

        deployment.deploy(settings, load)
        return f"deployed to {machines} machine{'s' * (machines > 1)}, port {settings.port}: {_described()}"


def status_of(address: str) -> str:
    """A sentence about the application. Raises `EngineError` if it is not there."""
    with _connected(address, ServerSettings()):
        return _described()


def remove_from(address: str) -> None:
    """Finish all sessions and remove the application. Raises `EngineError` if it is not there."""
    with _connected(address, ServerSettings()):
        from . import deployment

        _described()
        deployment.remove()


def _described() -> str:
    from . import deployment

    if (found := deployment.count_replicas()) is None:
        raise EngineError("this cluster runs no xlsr-live server; start one with: xlsr-live cluster deploy FILE")
    states = ", ".join(f"{count} {state.lower()}" for state, count in found.states.items()) or "none"
    return f"{found.status.lower()}, replicas: {states}" + (f" ({found.message})" if found.message else "")


@contextmanager
def _connected(address: str, settings: ServerSettings) -> Generator[int]:
    """Connect to the cluster for the length of the block; the number of its machines."""
    require_ray()
    for name, value in serve_environment(settings, haproxy=haproxy_binary() is not None).items():
        os.environ.setdefault(name, value)
    import ray

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises all kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise EngineError(
            f"there is no Ray cluster at {address} ({lines[0]}); start one with `ray start`, or "
            "set RAY_AUTH_TOKEN to its token"
        ) from error
    try:
        nodes: list[dict[str, Any]] = cast(Any, ray).nodes()
        yield sum(1 for node in nodes if node["Alive"])
    finally:
        ray.shutdown()
