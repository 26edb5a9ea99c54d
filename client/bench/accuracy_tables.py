"""Tables of `bench accuracy`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..output.latency import percentiles
from .accuracy_rows import AccuracyRow
from .tables import Table, percent

Column = Callable[[AccuracyRow], str]


def live_text(rows: Sequence[AccuracyRow], notes: Sequence[str]) -> Table:
    columns: dict[str, Column] = {
        "WER": lambda row: percent(row.live.wer),
        "95 %": lambda row: row.live.interval,
        "CER": lambda row: percent(row.live.cer),
        "frames as offline": lambda row: percent(row.agreement),
        "passes": lambda row: f"{row.passes:.2f}",
        "CPU s per s": lambda row: f"{row.encoder_cpu:.4f}",
    }
    return _table("Live text against offline", rows, columns, notes)


def sessions(rows: Sequence[AccuracyRow]) -> Table:
    columns: dict[str, Column] = {
        "WER of finals": lambda row: percent(row.final.wer),
        "95 %": lambda row: row.final.interval,
        "CER": lambda row: percent(row.final.cer),
        "held back": _live(lambda row: f"{row.config.hold_back_ms} ms"),
        "churn": _live(lambda row: f"{row.stability.churn:.3f}"),
        "revised": _live(lambda row: percent(row.stability.revision)),
        "shown after (s of audio, p50, p95)": _latency("shown"),
        "committed after": _latency("committed"),
        "calibration error of finals": _calibration("finals"),
        "of partials": _calibration("partials"),
        "CPU s per s": lambda row: f"{row.session_cpu:.4f}",
    }
    return _table("Sessions, through the gate", rows, columns)


def _table(title: str, rows: Sequence[AccuracyRow], columns: dict[str, Column], notes: Sequence[str] = ()) -> Table:
    cells = [[str(row.setting or "offline"), row.mode, *(column(row) for column in columns.values())] for row in rows]
    return Table(title, ["hop, lookahead, left (ms)", "mode", *columns], cells, notes)


def _live(column: Column) -> Column:
    """Empty in the offline row."""
    return lambda row: column(row) if row.setting else ""


def _latency(moment: str) -> Column:
    def column(row: AccuracyRow) -> str:
        found = percentiles(getattr(row.latencies, moment))
        return f"{found['p50']:.2f}, {found['p95']:.2f}" if found["count"] else ""

    return _live(column)


def _calibration(kind: str) -> Column:
    return lambda row: f"{found.error:.3f}" if (found := row.reliabilities().get(kind)) else ""
