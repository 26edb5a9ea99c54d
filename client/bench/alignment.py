"""Reads true ends of words from a table with the columns file, word and end (seconds in the recording)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final

from ...streaming.frames import SAMPLE_RATE
from ...streaming.protocol.events import Word
from .corpus import CorpusError, CorpusRecording, column, read_rows
from .streams import Playlist

MAX_DISTANCE: Final = 0.5  # seconds between a word of a final and its entry in the table

AlignedWords = list[tuple[str, float]]  # words of a recording in lower case, with their ends


def read_alignment(table: Path, recordings: Sequence[CorpusRecording]) -> list[AlignedWords]:
    """Words and their ends for each recording; empty for a recording that the table lacks. Raises `CorpusError`."""
    header, rows = read_rows(table)
    file, word, end = (column(table, header, [name]) for name in ("file", "word", "end"))
    ends: dict[str, AlignedWords] = {}
    for row in rows:
        try:
            ends.setdefault(Path(row[file]).name, []).append((row[word].casefold(), float(row[end])))
        except ValueError:
            raise CorpusError(f"{table}: {row[end]!r} is not a time in seconds") from None
    found = [ends.get(recording.path.name, []) for recording in recordings]
    if not any(found):
        raise CorpusError(f"{table}: it lists none of the recordings")
    return found


def end_of(aligned: Sequence[AlignedWords], playlist: Playlist, first: int) -> Callable[[Word], float]:
    """A function that returns the true end of a word in the stream that starts with recording `first`.

    That is the end of the nearest equal word within `MAX_DISTANCE`; without one, the recognizer's end.
    """

    def end(word: Word) -> float:
        begun = takewhile(lambda piece: piece[0] <= word.start * SAMPLE_RATE, playlist.pieces(first))
        *_, (number, at) = enumerate(at for at, _ in begun)
        words = aligned[(first + number) % len(aligned)]
        ends = [at / SAMPLE_RATE + true for text, true in words if text == word.word.casefold()]
        nearest = min(ends, key=lambda true: abs(true - word.end), default=word.end)
        return nearest if abs(nearest - word.end) <= MAX_DISTANCE else word.end

    return end
