"""The history of a run, and its picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from .finetune import Evaluation


def read_history(path: Path) -> list[Evaluation]:
    """The evaluations in order. Where a continued run repeated one, the last counts."""
    rows = [Evaluation(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for _, row in sorted({row.step: row for row in rows}.items())]


def draw(history: Sequence[Evaluation], path: Path) -> Path:
    """Training loss above, validation error rates below, over minutes of training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    learnt = [row for row in history if row.loss is not None]
    above.plot([row.minutes for row in learnt], [row.loss or 0.0 for row in learnt], "k.-")
    above.set_ylabel("loss (nats per character)")
    minutes = [row.minutes for row in history]
    below.plot(minutes, [100 * row.offline for row in history], "o-", label="offline")
    below.plot(minutes, [100 * row.live for row in history], "o--", label="live")
    below.set(ylabel="validation WER (%)", xlabel="minutes of training")
    below.legend()
    for axes in (above, below):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    return path
