"""What the two passes of one utterance share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config import SessionConfig
from ..requests import Job
from .command_tracker import CommandTracker
from .decoding import Decoding


@dataclass(frozen=True, slots=True, eq=False)
class UtteranceContext:
    """Samples are those of the session; frames count from the start of the utterance."""

    index: int
    start: int  # sample
    config: SessionConfig
    decoding: Decoding
    commands: CommandTracker
    read: Callable[[int, int], NDArray[np.float32]]  # the session's samples `[start, end)`
    next_id: Callable[[], int]  # for jobs
    submit: Callable[[Job], None]
    normalized: bool  # whether the checkpoint requires zero mean and unit variance
    epsilon: float  # of its normalization
