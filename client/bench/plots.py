"""Plots of results as PNG files (matplotlib, without a display)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...streaming.ctc.calibration import Reliability
from ..console import writing

if TYPE_CHECKING:
    from .accuracy_rows import AccuracyRow

COLOURS: Final = {"cached": "tab:blue", "window": "tab:orange", "offline": "black"}


def accuracy(folder: Path, rows: Sequence[AccuracyRow]) -> list[Path]:
    """Error of live text over lookahead, and error over cost."""
    live = [row for row in rows if row.setting]
    offline = next((row for row in rows if not row.setting), None)
    figure, axes = _axes("lookahead (ms)", "WER of committed text (%)")
    for mode in dict.fromkeys(row.mode for row in live):
        own = sorted(
            (row.setting.lookahead, 100 * row.live.wer, row) for row in live if row.mode == mode and row.setting
        )
        axes.plot([x for x, _, _ in own], [y for _, y, _ in own], "o", color=COLOURS[mode], label=mode)
        for x, y, row in own:
            axes.annotate(f" {row.setting}", (x, y), fontsize=7)
    if offline:
        axes.axhline(100 * offline.live.wer, color=COLOURS["offline"], linestyle=":", label="offline")
    first = _save(figure, axes, folder / "accuracy-lookahead.png")

    figure, axes = _axes("encoder, CPU seconds per second of audio", "WER of committed text (%)")
    for row in rows:
        axes.plot(row.encoder_cpu, 100 * row.live.wer, "o", color=COLOURS[row.mode])
        axes.annotate(f" {row.setting or 'offline'}", (row.encoder_cpu, 100 * row.live.wer), fontsize=7)
    axes.set_xlim(left=0)
    for mode in dict.fromkeys(row.mode for row in rows):
        axes.plot([], [], "o", color=COLOURS[mode], label=mode)
    return [first, _save(figure, axes, folder / "accuracy-cost.png")]


def curve(path: Path, streams: Sequence[int], lines: Mapping[str, Sequence[float]], bound: float) -> Path:
    """Latency (seconds) over the number of streams, with the bound."""
    figure, axes = _axes("live streams", "latency after the end of the word (s)")
    for name, values in lines.items():
        axes.plot(streams, values, "o-", label=name)
    axes.axhline(bound, color="black", linestyle=":", label="bound")
    return _save(figure, axes, path)


def reliability(path: Path, kinds: Mapping[str, Reliability]) -> Path:
    """The share of correct words over their confidence, one line for each kind; the diagonal is perfect calibration."""
    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], ":", color="black")
    for name, found in kinds.items():
        axes.plot(found.confidence, found.right, "o-", label=f"{name}: expected calibration error {found.error:.3f}")
    axes.set(xlabel="confidence", ylabel="share of right words", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    with writing(path):
        figure.savefig(path, dpi=120)
    return path


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Figure, axes: Axes, path: Path) -> Path:
    axes.set_ylim(bottom=0)
    axes.legend()
    with writing(path):
        figure.savefig(path, dpi=120)
    return path
