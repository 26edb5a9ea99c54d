"""What a file with a word n-gram says of itself, without KenLM: its words, and where an ARPA file is broken.

KenLM reads and checks the files; its binary's layout is that of `lm/binary_format.cc` of version 5: a header, the
counts by order, the model, and the words one after the other, each ended by a zero byte.
"""

from __future__ import annotations

import gzip
import mmap
import struct
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

from ..errors import LanguageModelError

SPECIAL: Final = frozenset(("<s>", "</s>", "<unk>", "<UNK>"))

_MAGIC: Final = b"mmap lm http://kheafield.com/code format version 5\n"
_FIXED: Final = struct.Struct("<88xB11x?7xQ")  # order, whether the words are there, how many they are
_FIRST_WORD: Final = b"<unk>\0"
_BEGIN, _END = "\\data\\", "\\end\\"  # of an ARPA file


def is_binary(path: Path) -> bool:
    """Whether it is one of KenLM's binaries, of any version. Raises `LanguageModelError`."""
    try:
        with path.open("rb") as file:
            return file.read(7) == _MAGIC[:7]
    except OSError as error:
        raise LanguageModelError(f"{path}: {error.strerror}") from error


def read_words(path: Path) -> list[str] | None:
    """The words of an ARPA file (plain or .gz) or a binary, without `<s>`, `</s>` and `<unk>`.

    None for a binary that was built without its words or by another version. Raises `LanguageModelError`.
    """
    if is_binary(path):
        return _binary_words(path)
    with _opened(path) as lines:
        return [word for word in _unigrams(lines) if word not in SPECIAL]


def find_fault(path: Path) -> str | None:
    """What is wrong with an ARPA file, with line and column; None where nothing is found."""
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


def _binary_words(path: Path) -> list[str] | None:
    size = path.stat().st_size
    if size < _FIXED.size:
        raise LanguageModelError(f"{path}: cut off: {size} bytes are not even the header of a KenLM binary")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(_MAGIC)] != _MAGIC:
            return None
        _, has_words, count = _FIXED.unpack_from(data)
        if not has_words:
            return None
        start = data.rfind(_FIRST_WORD)
        words = [] if start < 0 else data[start:].split(b"\0")[:-1]
    if len(words) != count:
        raise LanguageModelError(f"{path}: cut off: {len(words)} of its {count} words are there")
    return [word for word in (word.decode("utf-8", "replace") for word in words) if word not in SPECIAL]


def _unigrams(lines: Iterable[str]) -> Iterator[str]:
    inside = False
    for line in lines:
        if line.startswith("\\"):
            if inside:
                return
            inside = line.startswith("\\1-grams:")
        elif inside and len(fields := line.split()) > 1:
            yield fields[1]


def _fault(lines: Iterable[str]) -> str | None:
    """The first line that is not as <https://cmusphinx.github.io/wiki/arpaformat/> has it."""
    counts: list[int] = []
    known: set[str] = set()
    order, left = 0, 0  # of the section: its order, and how many n-grams are still to come
    number = 0
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        where = f"line {number}, column 1"
        if not order and not counts and text == _BEGIN:
            continue
        if not order and text.startswith("ngram "):
            name, _, count = text.removeprefix("ngram ").partition("=")
            if not (name.strip() == str(len(counts) + 1) and count.strip().isdigit()):
                return f"{where}: 'ngram {len(counts) + 1}=COUNT' is wanted, not {text!r}"
            counts.append(int(count))
        elif text.startswith("\\"):
            if left:
                return f"{where}: {text!r}, but {left} of {counts[order - 1]} {order}-grams are still to come"
            order += 1
            wanted = f"\\{order}-grams:" if order <= len(counts) else _END
            if text != wanted or not counts:
                return f"{where}: {wanted if counts else 'the line ngram 1=COUNT'!r} is wanted, not {text!r}"
            if text == _END:
                return None
            left = counts[order - 1]
        elif not order:
            return f"{where}: {_BEGIN!r} is wanted, not {text[:40]!r}"
        elif not left:
            return f"{where}: more {order}-grams than the {counts[order - 1]} that the header promises"
        else:
            left -= 1
            if why := _ngram_fault(text.split(), order, known):
                column = line.find(why[0]) + 1
                return f"line {number}, column {column}: {why[1]}"
    return f"line {number}: the file ends here, without {_END!r}: it is cut off"


def _ngram_fault(fields: list[str], order: int, known: set[str]) -> tuple[str, str] | None:
    """What stands at fault, and what is wrong with it."""
    words = fields[1 : order + 1]
    if len(words) < order or len(fields) > order + 2:
        return fields[0], f"a {order}-gram has a log-probability, {order} word(s) and perhaps a back-off weight"
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
    stranger = next((word for word in words if word not in known), None)
    return None if stranger is None else (stranger, f"{stranger!r} is not among the 1-grams")
