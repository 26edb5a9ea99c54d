"""One replica of Ray Serve: a whole server, whose sessions move to the other replicas when Serve stops it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from prometheus_client.core import Metric
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...streaming.errors import ConfigError, EngineError
from ..access.signed import SignedTickets
from ..app import UPLOADS, create_app
from ..logs import configure_logging
from ..models.candidate import Load, in_thread
from ..models.capacity import capacity, warn_if_crowded
from ..models.models import Models
from ..net.connections import uvicorn_options
from ..operations.health import unready_reasons
from ..operations.memory import freeze_loaded, trim_memory
from ..operations.metrics import CONTENT_TYPE, Exporter
from ..operations.reload import Reloader
from ..sessions.admission import Admission
from ..sessions.registry import SessionRegistry
from ..settings import ServerSettings
from .metrics import ask_replicas, merged
from .scaling import LIMIT, SESSIONS
from .tuning import tune

logger = logging.getLogger("xlsr_live.server")

KEY: Final = b"tickets"
ILL: Final = {"stopped", "stalled", "failing"}  # reasons to replace a replica; a full one is well


class ServerReplica:
    """Serve constructs it in a process of its own and calls it by the names of its methods."""

    async def __init__(self, settings: ServerSettings, load: Load) -> None:
        configure_logging(settings)
        tune(uvicorn_options(settings, UPLOADS))
        recognizer = await in_thread(partial(load, settings))
        freeze_loaded()
        limit = settings.max_sessions
        if limit == "auto":
            limit = await in_thread(partial(capacity, recognizer))
        warn_if_crowded(limit, recognizer)
        self._settings = settings
        self._models = Models(recognizer, settings.stall_s)
        self._sessions = SessionRegistry(limit)
        self._admission = Admission(self._models, settings, self._sessions)
        self._admission.access.tickets = SignedTickets(await in_thread(shared_key), settings.ticket_s)
        self._exporter = Exporter(self._admission)
        self._app = create_app(self._admission, Reloader(self._admission, load, _Reread(settings)))
        self._app.router.routes.insert(0, Route("/metrics", self._all_metrics))
        self._background = [asyncio.create_task(each) for each in (self._models.watch(), trim_memory())]
        self._draining: asyncio.Task[None] | None = None
        before_stopping(self.drain)

    def __serve_build_asgi_app__(self) -> Starlette:
        return self._app

    async def check_health(self) -> None:
        """Raise if Serve must replace this replica."""
        reasons = unready_reasons(self._models.current.engine, self._admission)
        if ill := ILL.intersection(reasons):
            raise EngineError(f"the model is {', '.join(sorted(ill))}")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """The numbers for `scaling.policy`."""
        return {SESSIONS: float(self._sessions.count), LIMIT: float(self._sessions.limit)}

    async def drain(self, move_s: float | None = None) -> None:
        """Finish all sessions; for `move_s` seconds (default: the setting) clients may move them to other replicas."""
        if self._draining is None:
            settings = self._settings
            longest = min(settings.move_s if move_s is None else move_s, settings.grace_s / 2)
            self._draining = asyncio.create_task(self._sessions.drain(settings.grace_s, longest))
        await asyncio.shield(self._draining)

    async def metrics(self) -> tuple[str, list[Metric]]:
        """This replica's name and metrics."""
        from ray import serve

        return serve.get_replica_context().replica_id.unique_id, list(self._exporter.collect())

    async def _all_metrics(self, request: Request) -> Response:
        self._admission.authenticate(request)
        return Response(merged(await ask_replicas(self.metrics)), media_type=CONTENT_TYPE)


class _Reread:
    """Reads the settings of a replica: always the same, since one replica must not change alone."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings: ServerSettings | None = settings

    def __call__(self) -> ServerSettings:
        settings, self._settings = self._settings, None
        if settings is None:
            raise ConfigError("replicas change their model together: run `xlsr-live cluster deploy` again")
        return settings


def shared_key() -> bytes:
    """The key of all replicas: the first one makes it, and Ray keeps it."""
    from ray.experimental import internal_kv

    table: Any = internal_kv
    table._internal_kv_put(KEY, secrets.token_bytes(32), overwrite=False, namespace=b"xlsr-live")
    return table._internal_kv_get(KEY, namespace=b"xlsr-live")


def before_stopping(work: Callable[[], Awaitable[None]]) -> None:
    """Let Serve wait for `work` when it is about to stop this replica, before it stops anything.

    Serve has no hook for this: it would wait for open connections without a word to anybody, and then cut them.
    """
    from ray._private.worker import global_worker

    worker: Any = global_worker
    serve_replica = worker.actors[worker.actor_id]._replica_impl
    stop: Callable[[], Awaitable[None]] = serve_replica.perform_graceful_shutdown

    async def work_then_stop() -> None:
        try:
            await work()
        except Exception:
            logger.exception("the replica stops with open sessions")
        await stop()

    serve_replica.perform_graceful_shutdown = work_then_stop
