"""What is promised to a crowd, and whether it was kept."""

from __future__ import annotations

from ..output.latency import percentiles
from .crowd import Told
from .tables import Table


def wrong(told: Told, lag_s: float) -> dict[str, list[str]]:
    """How each promise was broken, if it was, when finals may lag so much (p95 of every minute)."""
    silent = [each for each in told.refusals if each.status != 1013 and each.retry_after is None]
    late = [
        f"{p95:.1f} s in minute {at + 1}"
        for at, one in sorted(told.minutes.items())
        if one.final_lags and (p95 := percentiles(one.final_lags)["p95"]) > lag_s
    ]
    other = told.total - told.equal
    return {
        "finals are those of the same audio with nobody beside it": [f"{other} are not"] if other else [],
        "a refusal says when to come again": [f"{each.code} ({each.status}) does not" for each in silent],
        f"finals lag by at most {lag_s:g} s (p95 of each minute)": late,
    }


def verdict(wrong: dict[str, list[str]]) -> Table:
    rows = [[promise, "; ".join(how) or "yes"] for promise, how in wrong.items()]
    return Table("What was promised", ["promise", "kept"], rows)
