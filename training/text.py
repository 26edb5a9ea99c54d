"""Characters, greedy CTC reading and word errors."""

from __future__ import annotations

import numpy as np

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "|")
CHARACTERS = "'ABCDEFGHIJKLMNOPQRSTUVWXYZ"
VOCABULARY = {symbol: i for i, symbol in enumerate((*SPECIAL, *CHARACTERS))}
BLANK = VOCABULARY["<pad>"]
_SYMBOLS = [" " if s == "|" else "" if s in SPECIAL else s for s in VOCABULARY]


def encode(text: str) -> list[int]:
    """Upper-case text of A-Z, apostrophe and single spaces -> labels without word delimiters at the ends."""
    return [VOCABULARY["|" if c == " " else c] for c in text]


def greedy(labels: np.ndarray) -> str:
    """Best label of each frame (frames,) -> text: repeats merged, blanks dropped, spaces single."""
    kept = labels[np.insert(labels[1:] != labels[:-1], 0, True)] if len(labels) else labels
    return " ".join("".join(_SYMBOLS[i] for i in kept).split())


def word_errors(want: str, got: str) -> int:
    """Fewest words to insert, delete or replace to turn `got` into `want`."""
    a, b = want.split(), got.split()
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[-1]
