"""The speech collection beside the project; tests that need it are skipped without it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.support.paths import SPEECH

needs_speech = pytest.mark.skipif(not SPEECH.is_dir(), reason="the speech collection ../shared/speech is not here")


def listed(corpus: str) -> list[tuple[Path, str]]:
    with (SPEECH / "test.tsv").open(encoding="utf-8", newline="") as table:
        rows = csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(SPEECH / row["file"], row["text"]) for row in rows if row["file"].startswith(f"{corpus}/")]
