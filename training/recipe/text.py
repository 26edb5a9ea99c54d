"""Characters, greedy CTC reading."""

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
