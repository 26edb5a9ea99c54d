"""Reliability as a PNG file: the share of right words against their confidence (matplotlib, without a display)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from ...streaming.ctc.calibration import Reliability


def draw(path: Path, kinds: Mapping[str, Reliability]) -> Path:
    """One line for each kind of words; on the diagonal, confidences mean what they say."""
    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], ":", color="black")
    for name, found in kinds.items():
        axes.plot(found.confidence, found.right, "o-", label=f"{name}: expected calibration error {found.error:.3f}")
    axes.set(xlabel="confidence", ylabel="share of right words", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)
    return path
