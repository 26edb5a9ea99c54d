"""What a checkpoint may bring with it beside the model: the calibration of its confidences, and a language model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError

from ..ctc.assets import Assets
from ..ctc.calibration import FILE, load_calibration
from ..ctc.lm import Files, LanguageModel, find, find_in_checkpoint
from ..ctc.vocabulary import Vocabulary
from ..errors import LanguageModelError, ModelError
from .source import BUNDLED, Source

log = logging.getLogger("xlsr_live.model")


def load_assets(
    source: Source, vocabulary: Vocabulary, lm: Path | str | None = None, calibration: Path | str | None = None
) -> Assets:
    """`lm` is the file or folder of a language model; "bundled", the one in the package; "none"; or None: the
    checkpoint's own, if it has one. `calibration` is a file or the folder of one; or
    None: the checkpoint's own, if it has one. Raises `ModelError` and `LanguageModelError`.
    """
    own = lm is None
    folder = _folder(source, [FILE, "language_model/*"] if own else [FILE])
    files: Files | None = None
    if own:
        files = find_in_checkpoint(folder) if folder else None
    elif str(lm) == "bundled":
        if (files := find_in_checkpoint(BUNDLED)) is None:
            raise LanguageModelError("this package was built without a language model: name another one")
    elif str(lm) != "none":
        files = find(Path(lm).expanduser())
    place = folder if calibration is None else Path(calibration).expanduser()
    curves = load_calibration(place) if place else None
    if calibration is not None and curves is None:
        raise ModelError(f"{place} is no calibration and no folder that holds {FILE}")
    return Assets(
        calibration=curves,
        language_model=LanguageModel(files, vocabulary, log.info) if files else None,
        lm_in_partials=files is not None and source.name == "bundled",
    )


def _folder(source: Source, names: list[str]) -> Path | None:
    """Where the files lie; those of a checkpoint on the hub are fetched, if they are there."""
    if not source.options:
        return Path(source.path)
    try:
        return Path(cast(Any, huggingface_hub).snapshot_download(source.path, **source.options, allow_patterns=names))
    except (OSError, ValueError, HfHubHTTPError) as error:
        log.warning("what lies beside %s cannot be fetched: %s", source.name, str(error).strip().split("\n")[0])
        return None
