"""True ends of words, from a table with the columns file, word and end (seconds in the recording)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final

from ...streaming.frames import SAMPLE_RATE
from ...streaming.protocol.events import Word
from .corpus import CorpusError, Recording, column, read_rows
from .streams import Material

NEAR: Final = 0.5  # seconds within which a word of a final is taken for one of the table

Aligned = list[tuple[str, float]]  # words of a recording in lower case, and where they end


def read_alignment(table: Path, recordings: Sequence[Recording]) -> list[Aligned]:
    """Words and their ends for each recording; empty for one that the table lacks. Raises `CorpusError`."""
    header, rows = read_rows(table)
    file, word, end = (column(table, header, [name]) for name in ("file", "word", "end"))
    ends: dict[str, Aligned] = {}
    for row in rows:
        try:
            ends.setdefault(Path(row[file]).name, []).append((row[word].casefold(), float(row[end])))
        except ValueError:
            raise CorpusError(f"{table}: {row[end]!r} is not a time in seconds") from None
    found = [ends.get(recording.path.name, []) for recording in recordings]
    if not any(found):
        raise CorpusError(f"{table}: none of its files is one of the recordings")
    return found


def end_of(aligned: Sequence[Aligned], material: Material, first: int) -> Callable[[Word], float]:
    """The true end of a word in the stream that begins with recording number `first`: that of the nearest equal word
    within `NEAR`; without one, what the recognizer says."""

    def end(word: Word) -> float:
        begun = takewhile(lambda piece: piece[0] <= word.start * SAMPLE_RATE, material.pieces(first))
        *_, (number, at) = enumerate(at for at, _ in begun)
        words = aligned[(first + number) % len(aligned)]
        ends = [at / SAMPLE_RATE + true for text, true in words if text == word.word.casefold()]
        nearest = min(ends, key=lambda true: abs(true - word.end), default=word.end)
        return nearest if abs(nearest - word.end) <= NEAR else word.end

    return end
