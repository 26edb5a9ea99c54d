"""Optional files of a checkpoint that decoding uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .calibration import Calibration

if TYPE_CHECKING:
    from .lm import LanguageModel


@dataclass(frozen=True, slots=True)
class Assets:
    """Shared by all sessions."""

    calibration: Calibration | None = None
    language_model: LanguageModel | None = None
    lm_in_partials: bool = False  # whether partials use the language model, if the session does not choose
