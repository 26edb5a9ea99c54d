"""Everyday sentences in six languages: `phrases.tsv` has patterns and what fills their slots, a language a column.

All patterns and fillings are translations of each other and were written for this recipe (CC0 1.0). A text belongs to
one split for ever, by its checksum.
"""

from __future__ import annotations

import csv
import random
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

Split = Literal["train", "dev", "test"]

LANGUAGES: Final = ("eng", "deu", "spa", "fra", "ita", "por")
_TABLE: Final = Path(__file__).with_name("phrases.tsv")
_SLOT: Final = re.compile(r"\{(\w+)\}")


class Phrases:
    """The sentences of one language, lower case without punctuation."""

    def __init__(self, language: str) -> None:
        self._slots: dict[str, list[str]] = {}
        with _TABLE.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                self._slots.setdefault(row["slot"], []).append(row[language])

    def draw(self, split: Split, draw: random.Random) -> Iterator[str]:
        """Sentences of a split in random order, each once."""
        seen = set[str]()
        for _ in range(100_000):
            text = self._fill("{sentence}", draw)
            if text not in seen and split_of(text) == split:
                seen.add(text)
                yield text

    def _fill(self, pattern: str, draw: random.Random) -> str:
        while _SLOT.search(pattern):
            pattern = _SLOT.sub(lambda slot: draw.choice(self._slots[slot[1]]), pattern)
        return pattern


def split_of(text: str) -> Split:
    """An eighth of all texts is for tests, another eighth for development."""
    place = zlib.crc32(text.encode()) % 8
    return "test" if place == 0 else "dev" if place == 1 else "train"
