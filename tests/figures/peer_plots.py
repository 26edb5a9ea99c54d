"""The plots of `peers.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

MARKERS = "osD^vP"


def draw(
    folder: Path,
    costs: Mapping[str, tuple[float, float]],
    latencies: Mapping[str, Mapping[str, Sequence[float]]],
    title: str,
) -> None:
    """`costs` are CPU seconds per second and WER in %, `latencies` seconds of each moment."""
    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for (name, place), marker in zip(costs.items(), cycle(MARKERS), strict=False):
        axes.plot(*place, marker, markersize=8, fillstyle="none", label=name)
    axes.set(xscale="log", xlabel="CPU seconds for each second of audio", ylabel="WER of all speech (%)", title=title)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize=8)
    figure.savefig(folder / "peers-cost.png", dpi=120)

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    moments = list(next(iter(latencies.values())))
    width = 0.8 / len(latencies)
    for number, ((name, found), hatch) in enumerate(zip(latencies.items(), cycle(("", "//", "..")), strict=False)):
        at = np.arange(len(moments)) + width * (number - (len(latencies) - 1) / 2)
        p50, p95 = np.array([np.percentile(found[moment], (50, 95)) for moment in moments]).T
        bars = {"hatch": hatch, "edgecolor": "black", "linewidth": 0.5, "label": name}
        axes.bar(at, p50, 0.9 * width, yerr=(np.zeros_like(p50), p95 - p50), capsize=4, **bars)
    labels = ["first text\nafter speech begins", "committed\nafter a word ends", "final\nafter speech ends"]
    axes.set_xticks(range(len(moments)), labels)
    axes.set(ylabel="seconds: p50, and p95 as a line", title=title)
    axes.grid(alpha=0.3, axis="y")
    axes.set_axisbelow(True)
    axes.legend(fontsize=8)
    figure.savefig(folder / "peers-latency.png", dpi=120)
