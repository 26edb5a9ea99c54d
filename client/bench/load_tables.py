"""Tables of load tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..output.latency import percentiles
from .load_test import Outcome
from .tables import Table

MOMENTS: Final = {
    "shown": "word shown",
    "right": "word shown right",
    "committed": "word committed",
    "final": "word final",
    "final_after_word": "final after its last word",
    "final_after_end": "final after the utterance's end",
    "lag": "partial after its audio",
}
CURVE_COLUMNS: Final = (
    "streams",
    "shown p50",
    "p95",
    "p99",
    "right p50",
    "p95",
    "committed p50",
    "p95",
    "final after last word p50",
    "p95",
    "lag p95",
    "cores",
    "level",
)


def one_trial(outcome: Outcome) -> Table:
    """Every moment of one trial."""
    rows = [[label, *_cells(getattr(outcome.latencies, name))] for name, label in MOMENTS.items()]
    plan = outcome.trial.plan
    title = f"Latency, {plan.streams} streams, {plan.seconds:g} s"
    return Table(title, ["seconds", "p50", "p95", "p99", "most", "count"], rows, [_usage(outcome)])


def curve(outcomes: Sequence[Outcome], bound: float, moment: str) -> Table:
    """One row for each trial."""
    rows = [_curve_row(outcome, bound, moment) for outcome in outcomes]
    return Table("Capacity (latencies in seconds)", [*CURVE_COLUMNS, f"{moment} p95 under {bound:g} s"], rows)


def _curve_row(outcome: Outcome, bound: float, moment: str) -> list[str]:
    trial, found = outcome
    return [
        str(trial.plan.streams),
        *_cells(found.shown)[:3],
        *_cells(found.right)[:2],
        *_cells(found.committed)[:2],
        *_cells(found.final_after_word)[:2],
        *_cells(found.lag)[1:2],
        "" if trial.usage.cores is None else f"{trial.usage.cores:.2f}",
        str(outcome.level),
        trial.problem or ("yes" if outcome.within(bound, moment) else "no"),
    ]


def _cells(values: Sequence[float]) -> list[str]:
    found = percentiles(values)
    return [*(f"{found[name]:.2f}" if name in found else "" for name in ("p50", "p95", "p99", "max")), str(len(values))]


def _usage(outcome: Outcome) -> str:
    usage = outcome.trial.usage
    if usage.cores is None:
        text = "The CPU time of the server is not measured (--pid gives the process of a server on this machine)"
    else:
        each = 1000 * usage.cores / outcome.trial.plan.streams
        text = f"{usage.cores:.2f} CPU cores, {each:.1f} ms of CPU time for each second of a stream"
    if usage.gpu_bytes is not None:
        share = f"{sum(usage.gpu) / len(usage.gpu):.0f} % busy, " if usage.gpu else ""
        text += f"; GPU {share}{usage.gpu_bytes / 2**30:.1f} GiB in use"
    return text + "."
