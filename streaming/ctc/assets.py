"""What decoding may use beside the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .calibration import Calibration

if TYPE_CHECKING:
    from .lm import LanguageModel


@dataclass(frozen=True, slots=True)
class Assets:
    """Files of a checkpoint that decoding uses; shared by all sessions."""

    calibration: Calibration | None = None
    language_model: LanguageModel | None = None
    lm_in_partials: bool = False  # whether sessions use it in partials too if they do not choose
