"""The promises of an overloaded server, the verdict on them, and tables of a run."""

from __future__ import annotations

from collections.abc import Sequence

from xlsr_live.client.bench.tables import Table
from xlsr_live.client.output.latency import percentiles

from tests.load.load_clients import OverloadResult


def violations(result: OverloadResult, lag_s: float) -> dict[str, list[str]]:
    """The violations of each promise. `lag_s` bounds the p95 of the finals' lag in every minute."""
    silent = [refusal for refusal in result.refusals if refusal.status != 1013 and refusal.retry_after is None]
    late = [
        f"{p95:.1f} s in minute {at + 1}"
        for at, minute in sorted(result.minutes.items())
        if minute.final_lags and (p95 := percentiles(minute.final_lags)["p95"]) > lag_s
    ]
    different = result.total - result.equal
    return {
        "finals equal those of the same audio on the idle server": [f"{different} do not"] if different else [],
        "a refusal carries Retry-After": [f"{refusal.code} ({refusal.status}) does not" for refusal in silent],
        f"finals lag by at most {lag_s:g} s (p95 of each minute)": late,
    }


def verdict(violations: dict[str, list[str]]) -> Table:
    rows = [[promise, "; ".join(found) or "yes"] for promise, found in violations.items()]
    return Table("Promises", ["promise", "kept"], rows)


def by_minute(result: OverloadResult) -> Table:
    rows = [
        [
            str(at + 1),
            f"{minute.open_s / 60:.1f}",
            str(minute.started),
            str(minute.refused),
            str(minute.level),
            *_cells(minute.final_lags),
            *_cells(minute.partial_lags),
        ]
        for at, minute in sorted(result.minutes.items())
    ]
    columns = ["minute", "sessions open", "started", "refused", "level", "final lag p50", "p95", "most"]
    title = f"{result.clients} clients, {result.limit} sessions allowed (lags in seconds)"
    return Table(title, [*columns, "partial lag p50", "p95", "most"], rows)


def refusals(result: OverloadResult) -> Table:
    rows = [
        [
            refusal.code,
            str(refusal.status),
            "" if refusal.retry_after is None else f"{refusal.retry_after} s",
            str(count),
        ]
        for refusal, count in sorted(result.refusals.items(), key=str)
    ]
    return Table("Refusals", ["reason", "status", "Retry-After", "count"], rows)


def _cells(values: Sequence[float]) -> list[str]:
    found = percentiles(values)
    return [f"{found[name]:.2f}" if name in found else "" for name in ("p50", "p95", "max")]
