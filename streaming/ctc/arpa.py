"""Reads ARPA files into an n-gram; the error for a broken file gives line and column."""

from __future__ import annotations

import gzip
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

import numpy as np
from numpy.typing import NDArray

from ..errors import LanguageModelError
from .blanks import split, strip
from .ngram import UNKNOWN, UNKNOWN_WORDS, Ngram, SortedTable, Values

_BEGIN, _END = "\\data\\", "\\end\\"
_UNKNOWN_SCORE: Final = -100.0  # log10, for files without the unknown word
_NO_BACKOFF: Final = -0.0  # marks a context that no n-gram continues
_REPORT: Final = 500_000  # n-grams between two lines of progress

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def read_arpa(path: Path, progress: Callable[[str], None] | None = None) -> Ngram:
    """Read an n-gram; `progress` receives lines of text. Raises `LanguageModelError` with line and column."""
    try:
        with _opened(path) as lines:
            return _build(_Reader(path.name, lines, progress))
    except (ValueError, KeyError, IndexError) as error:
        raise LanguageModelError(f"{path} is not an ARPA file: {find_fault(path) or error}") from error


def find_fault(path: Path) -> str | None:
    """The first fault of an ARPA file, with line and column; None if it has none."""
    with _opened(path) as lines:
        return _fault(lines)


@contextmanager
def _opened(path: Path) -> Generator[TextIO]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            yield lines
    except UnicodeDecodeError as error:
        raise LanguageModelError(f"{path}: neither an ARPA file in UTF-8 nor a KenLM binary") from error
    except (OSError, EOFError) as error:
        raise LanguageModelError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


class _Reader:
    """Reads the sections of an ARPA file in order; reports progress in long ones."""

    def __init__(self, name: str, lines: Iterator[str], progress: Callable[[str], None] | None) -> None:
        self._name = name
        self._progress = progress
        self._lines = (text for line in lines if (text := strip(line)))
        self.words: dict[str, int] = dict.fromkeys(UNKNOWN_WORDS, UNKNOWN)
        self.counts: list[int] = []
        self._header = ""  # of the next section
        self._expect(_BEGIN)
        for text in self._lines:
            if not text.startswith("ngram "):
                self._header = text
                break
            order, count = text.removeprefix("ngram ").split("=")
            self.counts.append(int(count))
            if int(order) != len(self.counts):
                raise ValueError(text)
        if not self.counts:
            raise ValueError("no n-grams")

    def section(self, order: int) -> tuple[Ints, Floats, Floats]:
        """The next section: words, (n, order), scores and back-off weights, (n,) each."""
        if self._header != f"\\{order}-grams:":
            raise ValueError(self._header)
        words, scores, backoffs = array("q"), array("f"), array("f")
        for done in range(self.counts[order - 1]):
            fields = split(next(self._lines, ""))
            if order == 1:
                self.words.setdefault(fields[1], len(self.words) - 1)  # both names of the unknown word share a number
            words.extend(self.words[word] for word in fields[1 : order + 1])
            scores.append(float(fields[0]))
            backoffs.append(float(fields[order + 1]) if len(fields) == order + 2 else 0.0)
            if not order + 1 <= len(fields) <= order + 2:
                raise ValueError(fields)
            if self._progress and done % _REPORT == _REPORT - 1:
                self._progress(f"{self._name}: {done + 1} of {self.counts[order - 1]} {order}-grams")
        self._header = next(self._lines, "")
        found = np.frombuffer(scores, np.float32) if scores else np.empty(0, np.float32)
        if not (found <= 0).all():
            raise ValueError("not a log-probability")
        return np.array(words, np.int64).reshape(-1, order), found, np.array(backoffs, np.float32)

    def finish(self) -> None:
        if self._header != _END:
            raise ValueError(self._header)

    def _expect(self, text: str) -> None:
        if next(self._lines, "") != text:
            raise ValueError(text)


def _build(reader: _Reader) -> Ngram:
    sections = [reader.section(order) for order in range(1, len(reader.counts) + 1)]
    reader.finish()
    names = list(reader.words)[1:]
    names[UNKNOWN] = UNKNOWN_WORDS[0]
    (singles, found, weights), *longer = sections
    scores = np.full(len(names), _UNKNOWN_SCORE, np.float32)
    backoffs = np.zeros(len(names), np.float32)
    scores[singles[:, 0]], backoffs[singles[:, 0]] = found, weights
    levels = [_Level(np.arange(len(names)), scores, backoffs)]
    size = len(names) + 1  # one number is for no word
    places = [words[:, -1] for words, _, _ in longer]  # of each n-gram's ending in the level below
    for level, (words, found, weights) in enumerate(longer):
        order = level + 2
        _mark_followed(levels, words, size)
        keys = [
            place * size + each[:, -order] for place, (each, _, _) in zip(places[level:], longer[level:], strict=True)
        ]
        # A pruned model may lack the ending of a longer n-gram: that entry exists, without a score.
        entries = np.unique(np.concatenate(keys))
        places[level:] = [np.searchsorted(entries, each) for each in keys]
        own, after = np.full(len(entries), np.nan, np.float32), np.zeros(len(entries), np.float32)
        own[places[level]], after[places[level]] = found, weights
        levels.append(_Level(entries, own, after))
    tables = [
        SortedTable(level.entries, size, Values(level.scores), None if level is levels[-1] else Values(level.weights()))
        for level in levels[1:]
    ]
    return Ngram(names, scores, levels[0].weights(), tables)


class _Level:
    """The n-grams of one order. An entry is one number: place of its ending in the level below, and first word."""

    def __init__(self, entries: Ints, scores: Floats, backoffs: Floats) -> None:
        self.entries, self.scores, self._backoffs = entries, scores, backoffs
        self.followed = np.zeros(len(entries), bool)  # whether a longer n-gram begins with it

    def weights(self) -> Floats:
        """Back-off weights; -0.0 for n-grams that make no difference as a context."""
        unused = (self._backoffs == 0) & ~self.followed
        return np.where(unused, np.float32(_NO_BACKOFF), self._backoffs + np.float32(0))


def _mark_followed(levels: list[_Level], words: Ints, size: int) -> None:
    """Mark, in the last level, the beginnings of n-grams, (n, order)."""
    place, known = words[:, -2], np.ones(len(words), bool)
    for order, level in enumerate(levels[1:], 2):
        key = place * size + words[:, -order - 1]
        place = np.searchsorted(level.entries, key).clip(0, max(0, len(level.entries) - 1))
        known &= level.entries[place] == key if len(level.entries) else False
    levels[-1].followed[place[known]] = True


def _fault(lines: Iterable[str]) -> str | None:
    """The first line that breaks <https://cmusphinx.github.io/wiki/arpaformat/>."""
    counts: list[int] = []
    known: set[str] = set()
    order, left = 0, 0  # order of the section, and its remaining n-grams
    number = 0
    for number, line in enumerate(lines, 1):
        text = strip(line)
        if not text:
            continue
        where = f"line {number}, column 1"
        if not order and not counts and text == _BEGIN:
            continue
        if not order and text.startswith("ngram "):
            name, _, count = text.removeprefix("ngram ").partition("=")
            if not (name.strip() == str(len(counts) + 1) and count.strip().isdigit()):
                return f"{where}: expected 'ngram {len(counts) + 1}=COUNT', not {text!r}"
            counts.append(int(count))
        elif text.startswith("\\"):
            if left:
                return f"{where}: {text!r} comes too early: {left} of {counts[order - 1]} {order}-grams are missing"
            order += 1
            expected = f"\\{order}-grams:" if order <= len(counts) else _END
            if text != expected or not counts:
                return f"{where}: expected {expected if counts else 'ngram 1=COUNT'!r}, not {text!r}"
            if text == _END:
                return None
            left = counts[order - 1]
        elif not order:
            return f"{where}: expected {_BEGIN!r}, not {text[:40]!r}"
        elif not left:
            return f"{where}: more {order}-grams than the {counts[order - 1]} of the header"
        else:
            left -= 1
            if fault := _ngram_fault(split(text), order, known):
                field, problem = fault
                return f"line {number}, column {line.find(field) + 1}: {problem}"
    return f"line {number}: the file is cut off: it ends here, without {_END!r}"


def _ngram_fault(fields: list[str], order: int, known: set[str]) -> tuple[str, str] | None:
    """The faulty field, and its problem."""
    words = fields[1 : order + 1]
    if len(words) < order or len(fields) > order + 2:
        return fields[0], f"a {order}-gram needs a log-probability, {order} word(s) and optionally a back-off weight"
    for value in (fields[0], *fields[order + 1 :]):
        try:
            number = float(value)
        except ValueError:
            return value, f"{value!r} is not a number"
        if number != number or (value is fields[0] and number > 0):
            return value, f"{value} is not a log-probability"
    if order == 1:
        known.update(words)
        return None
    unknown = next((word for word in words if word not in known), None)
    return None if unknown is None else (unknown, f"{unknown!r} is not among the 1-grams")
