"""The server as an application of Ray Serve: deploys it, reports on it, removes it."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import msgspec
from msgspec.structs import replace
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from ...streaming.errors import EngineError
from ..models.candidate import Load
from ..settings import ServerSettings, check_replicable
from . import scaling
from .replica import ServerReplica

APPLICATION: Final = "xlsr-live"
DEPLOYMENT: Final = "server"
NO_LIMIT: Final = 100_000  # of requests: this server's admission decides, so Serve must never let one wait
STOPPING_S: Final = 15.0  # for the rest of a stop, after the sessions have ended


class ReplicaCount(NamedTuple):
    """The replicas of the application, by Serve's word for their state."""

    status: str
    message: str
    states: dict[str, int]


def application(settings: ServerSettings, load: Load) -> serve.Application:
    """The application; Serve pickles both arguments for its replicas."""
    options: dict[str, Any] = {
        "name": DEPLOYMENT,
        "max_ongoing_requests": NO_LIMIT,
        "max_queued_requests": -1,
        "health_check_period_s": 5.0,
        "graceful_shutdown_wait_loop_s": 0.5,
        "graceful_shutdown_timeout_s": settings.grace_s + STOPPING_S,
        "ray_actor_options": {"num_cpus": settings.replica_cpus, "num_gpus": settings.replica_gpus},
    }
    if settings.max_replicas is None:
        options["num_replicas"] = settings.replicas
    else:
        options["autoscaling_config"] = {
            "min_replicas": settings.replicas,
            "max_replicas": settings.max_replicas,
            "metrics_interval_s": 2.0,
            "look_back_period_s": 6.0,
            "upscale_delay_s": 6.0,
            "downscale_delay_s": 300.0,
            "policy": {"policy_function": scaling.policy},
        }
    untyped: Any = serve
    server = untyped.deployment(**options)(untyped.ingress()(ServerReplica))
    server._version = code_version(own_settings(settings))  # by default Serve replaces all replicas each time
    return server.bind(own_settings(settings), load)


def code_version(settings: ServerSettings) -> str:
    """Changes with all that a replica reads when it starts, as far as this machine knows it."""
    digest = hashlib.sha256(f"{version('xlsr-live')} {msgspec.json.encode(settings)}".encode())
    for file in (settings.token_file, settings.tokens_file):
        if file is not None:
            with suppress(OSError):  # only the machines of the replicas may have it
                digest.update(Path(file).read_bytes())
    return digest.hexdigest()[:16]


def own_settings(settings: ServerSettings) -> ServerSettings:
    """The settings of one replica. Serve replaces a replica when they change, so they must not change with the number
    of replicas. A shared session would live in one replica while its viewers ask another.
    """
    defaults = ServerSettings()
    ours = {name: getattr(defaults, name) for name in ("port", "replicas", "max_replicas", "ray_dashboard")}
    return replace(settings, max_viewers=0, **ours)


def deploy(settings: ServerSettings, load: Load) -> None:
    """Deploy to the connected cluster and wait until all replicas serve. Running replicas with other settings are
    replaced one after the other; their sessions move. Raises `EngineError`.
    """
    check_replicable(settings)
    options = {"host": settings.host, "port": settings.port}
    try:
        serve.start(proxy_location="EveryNode", http_options=options)
        serve.run(application(settings, load), name=APPLICATION, route_prefix="/")
    except (RayError, RayServeException, RuntimeError) as error:
        raise EngineError(f"the replicas do not start: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    found = serve.status().applications.get(APPLICATION)
    messages = [each.message for each in found.deployments.values()] if found else []
    lines = [line.strip() for message in [*messages, str(error)] for line in message.splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line or "Exception" in line]
    return (named or lines or [type(error).__name__])[-1]


def count_replicas() -> ReplicaCount | None:
    """The application's state in the connected cluster; None if it is not there."""
    if (found := serve.status().applications.get(APPLICATION)) is None:
        return None
    deployment = found.deployments.get(DEPLOYMENT)
    states = {str(state): count for state, count in deployment.replica_states.items()} if deployment else {}
    return ReplicaCount(str(found.status.value), (deployment.message if deployment else "") or found.message, states)


def drain_all() -> None:
    """Let all replicas finish their sessions at once; none of them can move."""
    handle = cast(Any, serve).get_deployment_handle(DEPLOYMENT, APPLICATION)
    handle.broadcast("drain", 0.0).results(return_exceptions=True)


def remove() -> None:
    """Finish all sessions and remove the application from the connected cluster."""
    if count_replicas() is not None:
        drain_all()
        serve.delete(APPLICATION)
