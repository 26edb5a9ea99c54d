"""Whether new sessions are served, and if not, why."""

from __future__ import annotations

from ...streaming.engine.engine import Engine
from ...streaming.overload import Level
from ..sessions.registry import SessionRegistry
from ..settings import ServerSettings


def troubles(engine: Engine, sessions: SessionRegistry, settings: ServerSettings) -> list[str]:
    """Reasons not to send anybody here; none if all is well."""
    reasons = {
        "stopped": not engine.alive,
        "stalled": max(engine.working_s, engine.searching_s) > settings.stall_s / 2,
        "failing": not engine.sound,
        "overloaded": engine.level >= Level.FINALS,
        "draining": sessions.draining,
        "full": sessions.full,
    }
    return [reason for reason, so in reasons.items() if so]
