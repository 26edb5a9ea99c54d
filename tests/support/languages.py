"""The languages of a small checkpoint, and utterances in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from xlsr_live.streaming.config import ModelOptions
from xlsr_live.streaming.model.encoder import XlsrEncoder
from xlsr_live.streaming.model.languages import Languages
from xlsr_live.streaming.model.load import load

from .cached_reference import Float32, Utterance
from .checkpoints import LETTERS, NO_DELIMITER, SPECIAL

LARGE = (*SPECIAL, "|", *(chr(0x4E00 + index) for index in range(600)))
MIDDLE = (*SPECIAL, "|", *(chr(0x0531 + index) for index in range(150)))
TOKENS: dict[str, tuple[str, ...]] = {
    "eng": LETTERS,
    "deu": (*LETTERS, "Ä", "ß"),
    "tha": NO_DELIMITER,
    "hye": MIDDLE,
    "cmn-script_simplified": LARGE,
}


def opened(directory: Path, **options: Any) -> tuple[XlsrEncoder, Languages]:
    encoder = load(ModelOptions(str(directory), device="cpu", **options))
    assert encoder.languages is not None
    return encoder, encoder.languages


class Speaker(Utterance):
    """An utterance in a language; `setting` is hop, lookahead and left context in frames."""

    def __init__(self, samples: Float32, language: str | None, setting: tuple[int, int, int] = (10, 5, 30)) -> None:
        super().__init__(samples, *setting, language=language)


def same(ours: Sequence[Float32], others: Sequence[Float32], within: float = 0.0) -> bool:
    return all(
        a.shape == b.shape and (np.array_equal(a, b) if not within else bool(np.abs(a - b).max() <= within))
        for a, b in zip(ours, others, strict=True)
    )
