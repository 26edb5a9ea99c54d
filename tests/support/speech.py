"""The speech collection, in the folder of the environment variable XLSR_LIVE_SPEECH or the shared folder."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.support.paths import SPEECH

TABLE = SPEECH / "test.tsv"
MISSING = (
    f"no recordings in {SPEECH}: set XLSR_LIVE_SPEECH to a folder of yours with test.tsv "
    "(columns file, text, set and corpus; files in one folder for each set)"
)

needs_speech = pytest.mark.skipif(not TABLE.is_file(), reason=MISSING)


def require_speech() -> Path:
    """The folder of recordings. Without it the program exits with a sentence that explains how to set it."""
    if not TABLE.is_file():
        raise SystemExit(MISSING)
    return SPEECH


def listed(corpus: str) -> list[tuple[Path, str]]:
    """The recordings of a set, with their transcripts."""
    require_speech()
    with TABLE.open(encoding="utf-8-sig", newline="") as table:
        rows = csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(SPEECH / row["file"], row["text"]) for row in rows if row["file"].startswith(f"{corpus}/")]
