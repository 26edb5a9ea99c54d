"""Readiness: whether the server can serve new sessions; if not, the reasons."""

from __future__ import annotations

from ...streaming.engine.service import EngineService
from ...streaming.overload import Level
from ..sessions.admission import Admission


def unready_reasons(engine: EngineService, admission: Admission) -> list[str]:
    """Reasons for a load balancer to send no traffic here; empty if the server is ready."""
    sessions, settings = admission.sessions, admission.settings
    conditions = {
        "stopped": not engine.alive,
        "stalled": max(engine.working_s, engine.searching_s) > settings.stall_s / 2,
        "failing": not engine.healthy,
        "overloaded": min(admission.levels) >= Level.FINALS,
        "draining": sessions.draining,
        "full": admission.open_sessions >= sessions.limit,
    }
    return [reason for reason, holds in conditions.items() if holds]
