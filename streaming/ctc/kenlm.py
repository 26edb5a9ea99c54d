"""Reads KenLM binaries of version 5: probing hash tables, and tries with or without quantisation and compression.

Layout, from `lm/binary_format.cc`, `search_hashed.hh`, `search_trie.cc`, `trie.cc` and `bhiksha.cc` of KenLM: a header,
the counts by order, hashes of the words, the n-grams, and the words, each ended by a zero byte. Hash tables stay in the
memory-mapped file; tries are unpacked into arrays.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import LanguageModelError
from .ngram import Ints, Ngram, NgramTable, Nodes, Scores, SortedTable, Values

_MAGIC: Final = b"mmap lm http://kheafield.com/code format version 5\n"
_FIXED: Final = struct.Struct("<88xB3xfI?3xI")  # order, multiplier, kind, has words, version
_FIRST_WORD: Final = b"<unk>\0"
_PROBING, _TRIE, _QUANTISED, _COMPRESSED, _BOTH = 0, 2, 3, 4, 5  # kinds
_VERSIONS: Final = {_PROBING: 0, _TRIE: 1, _QUANTISED: 1, _COMPRESSED: 1, _BOTH: 1}
_HASH, _WORD_HASH = np.uint64(8978948897894561157), np.uint64(17894857484156487943)

Bytes = NDArray[np.uint8]


def is_binary(path: Path) -> bool:
    """Whether the file is a KenLM binary of any version. Raises `LanguageModelError`."""
    try:
        with path.open("rb") as file:
            return file.read(7) == _MAGIC[:7]
    except OSError as error:
        raise LanguageModelError(f"{path}: {error.strerror}") from error


def read_kenlm(path: Path) -> Ngram:
    """Read an n-gram. Raises `LanguageModelError`."""
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise LanguageModelError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) < _FIXED.size:
        raise LanguageModelError(f"{path}: cut off: {len(data)} bytes are not even the header of a KenLM binary")
    order, multiplier, kind, has_words, version = _FIXED.unpack_from(data)
    if data[: len(_MAGIC)] != _MAGIC or _VERSIONS.get(kind) != version or order < 2:
        raise LanguageModelError(
            f"{path} is a KenLM binary of another version or kind: "
            "build it again from its ARPA file with KenLM's build_binary, as a trie or probing"
        )
    if len(data) < _FIXED.size + 8 * order:
        raise LanguageModelError(f"{path}: cut off: {len(data)} bytes are not even the header of a KenLM binary")
    counts = list(struct.unpack_from(f"<{order}Q", data, _FIXED.size))
    words = _words(path, data, counts[0], kind, has_words)
    cursor = _Cursor(np.frombuffer(data, np.uint8), -(-(_FIXED.size + 8 * order) // 8) * 8)
    try:
        read = _read_probing if kind == _PROBING else _read_trie
        scores, tables = read(cursor, counts, multiplier, kind)
    except (ValueError, IndexError) as error:
        raise LanguageModelError(f"{path}: cut off: some of its n-grams are missing") from error
    return Ngram(words, -np.abs(scores[: len(words), 0]), scores[: len(words), 1].copy(), tables)


def _words(path: Path, data: mmap.mmap, count: int, kind: int, has_words: bool) -> list[str]:
    if not has_words:
        raise LanguageModelError(f"{path} does not contain its words: build it again with KenLM's build_binary")
    start = data.rfind(_FIRST_WORD)
    words = [] if start < 0 else data[start:].split(b"\0")[:-1]
    uncounted = kind == _PROBING and len(words) == count + 1  # the ARPA file has no <unk>; tries count it all the same
    if len(words) != count and not uncounted:
        raise LanguageModelError(f"{path}: cut off: it has {len(words)} of its {count} words")
    return [word.decode("utf-8", "replace") for word in words]


@dataclass(slots=True)
class _Cursor:
    """A place in the file."""

    data: Bytes
    at: int

    def take(self, size: int) -> Bytes:
        """The next bytes. Raises `ValueError` if the file is too short."""
        part = self.data[self.at : self.at + size]
        if len(part) < size:
            raise ValueError("cut off")
        self.at += size
        return part


# ── hash tables ──


class HashTable:
    """Open addressing, linear probing; a node is the hash of the words, last word first."""

    def __init__(self, keys: NDArray[np.uint64], scores: NDArray[np.float32], backoffs: Values | None) -> None:
        self._keys, self._scores, self._backoffs = keys, scores, backoffs

    def find(self, nodes: Nodes, words: Ints) -> Ints:
        wanted = (nodes.astype(np.uint64) * _HASH) ^ ((1 + words).astype(np.uint64) * _WORD_HASH)
        places = (wanted % np.uint64(len(self._keys))).astype(np.int64)
        while len(left := ((self._keys[places] != wanted) & (self._keys[places] != 0)).nonzero()[0]):
            places[left] = (places[left] + 1) % len(self._keys)
        places[self._keys[places] != wanted] = -1
        return places

    def nodes(self, places: Ints) -> Nodes:
        return self._keys[places]

    def scores(self, places: Ints) -> Scores:
        return -np.abs(self._scores[places].astype(np.float64))

    def backoffs(self, places: Ints) -> Scores:
        assert self._backoffs is not None
        return self._backoffs[places]


def _read_probing(
    cursor: _Cursor, counts: list[int], multiplier: float, _: int
) -> tuple[NDArray[np.float32], list[NgramTable]]:
    def buckets(count: int) -> int:
        return max(count + 1, int(np.float32(multiplier) * np.float32(count)))

    cursor.take(8 + 12 * buckets(counts[0]))  # hashes of the words
    scores = cursor.take(8 * (counts[0] + 1)).view(np.float32).reshape(-1, 2)
    tables: list[NgramTable] = []
    for count in counts[1:]:
        longest = len(tables) == len(counts) - 2
        fields: list[tuple[str, str]] = [("key", "<u8"), ("score", "<f4"), *([] if longest else [("backoff", "<f4")])]
        form = np.dtype(fields)
        table: Any = cursor.take(form.itemsize * buckets(count)).view(form)
        tables.append(HashTable(table["key"], table["score"], None if longest else Values(table["backoff"])))
    return scores, tables


# ── tries ──


@dataclass(frozen=True, slots=True)
class _Packed:
    """Adjacent entries of `bits` bits."""

    data: Bytes
    bits: int
    count: int

    def read(self, offset: int, bits: int) -> NDArray[np.uint64]:
        """A field of up to 57 bits of every entry, (count,)."""
        at = np.arange(self.count, dtype=np.int64) * self.bits + offset
        words = np.ndarray(len(self.data) - 7, "<u8", self.data, strides=(1,))  # one beginning at each byte
        return (words[at >> 3] >> (at & 7).astype(np.uint64)) & np.uint64((1 << bits) - 1)


def _read_trie(cursor: _Cursor, counts: list[int], _: float, kind: int) -> tuple[NDArray[np.float32], list[NgramTable]]:
    cursor.take(8 * (1 + counts[0]))  # hashes of the words
    score_bits, backoff_bits = 31, 32
    books: list[tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]] = [(None, None)] * (len(counts) - 1)
    if quantised := kind in (_QUANTISED, _BOTH):
        score_bits, backoff_bits = cursor.take(8)[1:3].tolist()
        for place in range(len(counts) - 1):
            book = cursor.take(4 << score_bits).view("<f4")
            last = place == len(counts) - 2
            books[place] = (book, None if last else cursor.take(4 << backoff_bits).view("<f4"))
    single = np.dtype([("scores", "<f4", 2), ("first", "<u8")])
    singles: Any = cursor.take(single.itemsize * (counts[0] + 2)).view(single)
    first: NDArray[np.int64] = singles["first"][: counts[0] + 1].astype(np.int64)
    tables: list[NgramTable] = []
    word_bits = counts[0].bit_length()
    pointer_bits = None
    for place, count in enumerate(counts[1:]):
        longest = place == len(counts) - 2
        value_bits = score_bits + (0 if longest else backoff_bits)
        high: NDArray[np.int64] | None = None
        bits = 0 if longest else counts[place + 2].bit_length()
        if kind in (_COMPRESSED, _BOTH) and not longest:
            if pointer_bits is None:
                pointer_bits = int(cursor.data[cursor.at + 1])
            high, bits = _high_bits(cursor, count + 1, counts[place + 2], pointer_bits)
        total = word_bits + value_bits + bits
        packed = _Packed(cursor.take(((1 + count) * total + 7) // 8 + 8), total, count + 1)
        words = packed.read(0, word_bits)[:count].astype(np.int64)
        # Quantised entries have the back-off weight first; others have the score first, without its sign.
        after = 0 if longest or not quantised else backoff_bits
        scores = packed.read(word_bits + after, score_bits)[:count]
        backoffs = None if longest else packed.read(word_bits + (0 if quantised else score_bits), backoff_bits)[:count]
        if not quantised:
            scores = (scores.astype(np.uint32) | np.uint32(1 << 31)).view(np.float32)
            backoffs = None if backoffs is None else backoffs.astype(np.uint32).view(np.float32)
        else:
            scores = _narrow(scores, score_bits)
            backoffs = None if backoffs is None else _narrow(backoffs, backoff_bits)
        score_book, backoff_book = books[place]
        nodes, size = np.repeat(np.arange(len(first) - 1), np.diff(first)), counts[0] + 1
        tables.append(
            SortedTable(
                nodes * size + words,
                size,
                Values(scores, score_book),
                None if backoffs is None else Values(backoffs, backoff_book),
            )
        )
        if not longest:
            first = packed.read(word_bits + value_bits, bits).astype(np.int64)
            if high is not None:
                first |= (np.searchsorted(high, np.arange(count + 1), side="right") - 1) << bits
    return singles["scores"], tables


def _narrow(codes: NDArray[np.uint64], bits: int) -> NDArray[np.unsignedinteger[Any]]:
    return codes.astype(np.uint8 if bits <= 8 else np.uint32)


def _high_bits(cursor: _Cursor, entries: int, most: int, allowed: int) -> tuple[NDArray[np.int64], int]:
    """Compressed pointers: indices at which the high bits increase by one, and the number of low bits per entry."""
    required = most.bit_length()
    cost = [(most >> (required - chop)) * 64 - entries * chop for chop in range(min(required, allowed) + 1)]
    chop = cost.index(min(cost))
    count = (most >> (required - chop)) + 1
    start = -cursor.at % 8
    table = cursor.take(8 * (1 + count) + 7)[start + 8 :]
    return table[: 8 * count].view("<u8").astype(np.int64), required - chop
