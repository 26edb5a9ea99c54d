"""The clips in the package: real speech and one ticking clock. `clips/LICENSES.md` says whose they are."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).parents[1] / "clips"


class Clip(NamedTuple):
    path: Path
    text: str  # what is said; empty: nobody speaks
    source: str


def load_clips() -> list[Clip]:
    """The clips in the order of `clips.tsv`: speech first."""
    with (FOLDER / "clips.tsv").open(encoding="utf-8", newline="") as table:
        rows = csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Clip(FOLDER / row["file"], row["text"], row["source"]) for row in rows]
