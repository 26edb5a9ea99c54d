"""The packaged clips: real speech and one ticking clock. `clips/LICENSES.md` names their authors."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).parents[1] / "clips"


class Clip(NamedTuple):
    """A packaged recording."""

    path: Path
    text: str  # empty: no speech
    source: str


def load_clips() -> list[Clip]:
    """The clips in the order of `clips.tsv`: speech first."""
    with (FOLDER / "clips.tsv").open(encoding="utf-8", newline="") as table:
        rows = csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Clip(FOLDER / row["file"], row["text"], row["source"]) for row in rows]
