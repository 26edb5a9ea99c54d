"""What steps and passes share about the answers of a batch: rows, or an error for a request that failed alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from .banks import HeadBank
from .languages import Place

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Answer = Float32 | EngineError  # rows, (frames, vocabulary)
Pending = Callable[[], list[Answer]]  # waits for the device


def collected(pending: Pending) -> list[Answer]:
    """The answers. If all requests failed, raises the first error."""
    answers = pending()
    if answers and all(isinstance(answer, EngineError) for answer in answers):
        raise next(answer for answer in answers if isinstance(answer, EngineError))
    return answers


def cut(rows: Sequence[Float32 | None], places: Sequence[Place]) -> list[Answer]:
    """Rows of each utterance without the outputs that pad its language's head; None is output that is not finite."""
    widths = [place.tokens for place in places] or [None] * len(rows)
    return [
        EngineError("the model's output is not finite") if row is None else row[:, :width]
        for row, width in zip(rows, widths, strict=True)
    ]


def heads_of(places: Sequence[Place]) -> HeadBank | None:
    """The bank of a batch's heads; None without languages."""
    banks = {id(place.bank): place.bank for place in places}
    if len(banks) > 1 or any(not bank.mixes and len({place.head for place in places}) > 1 for bank in banks.values()):
        raise ValueError("heads of different widths in one batch")
    return next(iter(banks.values()), None)
