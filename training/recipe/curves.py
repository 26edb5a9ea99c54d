"""The training history as a picture."""

from __future__ import annotations

import json
from pathlib import Path

from .plan import KINDS
from .settings import Work


def read_history(path: Path) -> list[dict]:
    """Return the evaluations in order. If a resumed run repeated a round, the last evaluation counts."""
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted({entry["round"]: entry for entry in entries}.values(), key=lambda entry: entry["round"])


def draw(work: Work, out: Path) -> None:
    """Plot training loss and validation WER of every corpus, offline (solid) and live (dashed), over hours of audio."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    paths = [*work.run.glob("stable.jsonl"), *sorted(work.run.glob("decay*.jsonl"))]
    runs = [history for path in paths if (history := read_history(path))]
    figure, (above, below, kinds) = pyplot.subplots(3, 1, figsize=(8, 10), sharex=True, height_ratios=(1, 2, 1))
    corpora = sorted({c for history in runs for entry in history for c in entry["offline"]} - {"noise"})
    colours = dict(zip(corpora, pyplot.get_cmap("tab10").colors, strict=False))
    for history in runs:
        hours = [entry["audio_hours"] for entry in history]
        above.plot(hours, [entry["loss"] for entry in history], "k.-", linewidth=1)
        for corpus in corpora:
            for mode, line in (("offline", "-"), ("live", "--")):
                values = [entry[mode].get(corpus) for entry in history]
                first = history is runs[0] and mode == "offline"
                below.plot(hours, values, line, color=colours[corpus], label=corpus if first else None, linewidth=1.2)
    parts = [entry for history in runs for entry in history if "hours" in entry]
    parts.sort(key=lambda entry: entry["audio_hours"])
    if parts:
        hours = [entry["audio_hours"] for entry in parts]
        kinds.stackplot(hours, [[entry["hours"][kind] for entry in parts] for kind in KINDS], labels=KINDS, alpha=0.7)
        kinds.legend(fontsize=8, loc="upper left", frameon=False)
    kinds.set_ylabel("hours of each kind")
    above.set_ylabel("training loss (nats per character)")
    below.set_ylabel("validation WER (%), live dashed")
    below.set_ylim(0, 105)
    kinds.set_xlabel("hours of audio trained on")
    below.legend(fontsize=8, ncol=len(corpora), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    for axes in (above, below, kinds):
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(out, dpi=110)
    pyplot.close(figure)
