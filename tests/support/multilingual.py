"""A small checkpoint with six languages, in the layout of MMS: an English model with trained adapters."""

from __future__ import annotations

from pathlib import Path

from xlsr_live.training.recipe.multilingual.checkpoint import LID, join

from tests.support.paths import CLIPS, TESTS

ADAPTERS = TESTS / "models" / "multilingual"  # the folder holds its licence
HEAD = ADAPTERS / LID  # identifies the six languages over the encoder of the English model
SPOKEN = CLIPS / "languages"  # a clip for each language, named by its code; the folder holds their licence
LANGUAGES = ("deu", "eng", "fra", "ita", "por", "spa")


def make_multilingual(folder: Path) -> Path:
    """Write the checkpoint into a folder: the English model of the tests with their adapters and calibrations."""
    join("bundled", ADAPTERS, folder)
    return folder
