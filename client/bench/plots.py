"""Plots of results as PNG files (matplotlib, without a display).

Colours and markers differ, so that the lines differ without colours, too. Points have no labels, which would overlap:
the legend names them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...streaming.ctc.calibration import Reliability
from ..console import writing

if TYPE_CHECKING:
    from .accuracy_rows import AccuracyRow
    from .decoding_variants import DecodingVariant

COLOURS: Final = {"cached": "tab:blue", "window": "tab:orange", "offline": "black"}  # of modes
MARKERS: Final = "osD^vP*X<>"
STYLES: Final = ("-", "--", "-.", ":")


def titled(model: str, count: int, what: str) -> str:
    """The title of a plot: the model's name without its folder, and the size of the sample."""
    name = model if "://" in model else Path(model).name
    return f"{name}, n = {count:,} {what}"


def accuracy(folder: Path, rows: Sequence[AccuracyRow], title: str) -> list[Path]:
    """Error of live text over lookahead, and error over cost. Colours are modes, markers are settings."""
    offline = next((row for row in rows if not row.setting), None)
    markers = dict(zip(dict.fromkeys(row.setting for row in rows if row.setting), cycle(MARKERS), strict=False))
    figure, axes = _axes("lookahead (ms)", "WER of committed text (%)", title)
    for row in rows:
        if row.setting:
            _point(axes, row.setting.lookahead, row, markers[row.setting])
    if offline:
        axes.axhline(100 * offline.live.wer, color=COLOURS["offline"], linestyle=":", label="offline")
    first = _save(figure, axes, folder / "accuracy-lookahead.png")

    figure, axes = _axes("encoder, CPU seconds per second of audio", "WER of committed text (%)", title)
    for row in rows:
        _point(axes, row.encoder_cpu, row, markers[row.setting] if row.setting else "x")
    axes.set_xlim(left=0)
    return [first, _save(figure, axes, folder / "accuracy-cost.png")]


def _point(axes: Axes, x: float, row: AccuracyRow, marker: str) -> None:
    label = f"{row.mode} {row.setting or ''}".rstrip()
    colour = COLOURS[row.mode]
    # Two modes at the same place: the one below stays visible around the other.
    size = 11 if row.mode == "window" else 7
    axes.plot(x, 100 * row.live.wer, marker, color=colour, markersize=size, fillstyle="none", label=label)


def curve(path: Path, streams: Sequence[int], lines: Mapping[str, Sequence[float]], bound: float, title: str) -> Path:
    """Latency (seconds) over the number of streams, with the bound."""
    figure, axes = _axes("live streams", "latency after the end of the word (s)", title)
    for (name, values), marker, style in zip(lines.items(), cycle(MARKERS), cycle(STYLES), strict=False):
        axes.plot(streams, values, marker=marker, linestyle=style, label=name)
    axes.axhline(bound, color="black", linestyle=":", label="bound")
    return _save(figure, axes, path)


def distribution(path: Path, kinds: Mapping[str, Sequence[float]], title: str) -> Path:
    """The share of words, or of partials, that came within a time (seconds), one line for each kind."""
    figure, axes = _axes("latency (s)", "share that came by then (%)", title)
    for (name, values), marker, style in zip(kinds.items(), cycle(MARKERS), cycle(STYLES), strict=False):
        if values:
            ordered = np.sort(values)
            shares = 100 * np.arange(1, len(ordered) + 1) / len(ordered)
            every = max(1, len(ordered) // 8)
            label = f"{name} ({len(ordered):,})"
            axes.plot(ordered, shares, marker=marker, markevery=every, linestyle=style, label=label)
    for share in (50, 95):
        axes.axhline(share, color="black", linewidth=0.5, linestyle=":")
    return _save(figure, axes, path)


def decoding(path: Path, sets: Mapping[str, Sequence[DecodingVariant]], title: str) -> Path:
    """Word error rates (%) as bars, one for each set and variant. Sets without speech have none."""
    spoken = {name: each for name, each in sets.items() if any(score.length for score in each[0].texts.words)}
    figure, axes = _axes("", "WER (%)", title)
    variants = len(next(iter(spoken.values()), ()))
    width = 0.8 / max(1, variants)
    for place, hatch in zip(range(variants), cycle(("", "//", "xx", "..", "\\\\", "++")), strict=False):
        rates = [100 * each[place].texts.wer for each in spoken.values()]
        at = np.arange(len(spoken)) + width * (place - (variants - 1) / 2)
        name = next(iter(spoken.values()))[place].name
        axes.bar(at, rates, 0.9 * width, label=name, hatch=hatch, edgecolor="black", linewidth=0.5)
    words = {name: sum(score.length for score in each[0].texts.words) for name, each in spoken.items()}
    axes.set_xticks(range(len(spoken)), [f"{name}\n{count:,} words" for name, count in words.items()])
    axes.grid(visible=False, axis="x")
    return _save(figure, axes, path)


def reliability(path: Path, kinds: Mapping[str, Reliability], title: str) -> Path:
    """The share of correct words over their confidence, one line for each kind, and below the number of words in each
    bin. The diagonal is perfect calibration."""
    figure = Figure(figsize=(6, 7), layout="constrained")
    axes, counts = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    axes.set_title(title)
    axes.plot([0, 1], [0, 1], ":", color="black")
    for number, ((name, found), marker, style) in enumerate(zip(kinds.items(), MARKERS, STYLES, strict=False)):
        label = f"{name}: {int(found.words.sum()):,} words, expected calibration error {found.error:.3f}"
        (line,) = axes.plot(found.confidence, found.right, marker=marker, linestyle=style, label=label)
        width = 0.03 / len(kinds)
        counts.bar(found.confidence + number * width, found.words, width, color=line.get_color())
    axes.set(ylabel="share of right words", xlim=(0, 1), ylim=(0, 1))
    counts.set(xlabel="confidence", ylabel="words in bin")
    for each in (axes, counts):
        each.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize=8)
    with writing(path):
        figure.savefig(path, dpi=120)
    return path


def _axes(x: str, y: str, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Figure, axes: Axes, path: Path) -> Path:
    """Beside the axes the legend hides no point."""
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize=8)
    with writing(path):
        figure.savefig(path, dpi=120)
    return path
