"""Progress of loading a model, for people who wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["downloading", "loading", "warming up"]


@dataclass(frozen=True, slots=True)
class Progress:
    """A stage of a start."""

    stage: Stage
    model: str
    done: int = 0  # bytes downloaded
    total: int = 0  # bytes to download; 0 if unknown


Report = Callable[[Progress], None]


def unreported(progress: Progress) -> None:
    """The `Report` of those who do not wait."""
