"""How many replicas the sessions need: Ray Serve's controller asks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

BUSY: Final = 0.7  # of all sessions: more replicas
QUIET: Final = 0.5  # of the sessions of all replicas but one: one replica less

SESSIONS, LIMIT = "sessions", "limit"


def policy(context: Any) -> tuple[int, dict[str, Any]]:
    """A policy of Serve's autoscaling: the number of replicas, and nothing to remember."""
    metrics: Mapping[str, Mapping[Any, float]] = context.aggregated_metrics or {}
    sessions, limits = metrics.get(SESSIONS, {}), metrics.get(LIMIT, {})
    wanted = replicas(context.target_num_replicas, sum(sessions.values()), list(limits.values()))
    return min(max(wanted, context.capacity_adjusted_min_replicas), context.capacity_adjusted_max_replicas), {}


def replicas(now: int, sessions: float, limits: list[float]) -> int:
    """The replicas for so many sessions, of replicas with these limits.

    Up as far as necessary; down one by one, and only while the others have room for the sessions that must move.
    """
    if not limits:
        return now
    limit = sum(limits) / len(limits)
    needed = math.ceil(sessions / (BUSY * limit) - 1e-9)  # less a rounding error
    if needed > now:
        return needed
    return now - 1 if now > 1 and sessions <= QUIET * (now - 1) * limit else now
