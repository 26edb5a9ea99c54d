"""What a checkpoint may bring with it beside the model: the calibration of its confidences, and a language model."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError

from .calibration import FILE, load_calibration
from .decoding import Assets
from .lm import LanguageModel, find, find_in_checkpoint
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from .xlsr_load import Source

log = logging.getLogger("xlsr_live.model")


def load_assets(source: Source, vocabulary: Vocabulary, lm: Path | str | None = None) -> Assets:
    """`lm` is the file or folder of a language model, "none", or None: the checkpoint's own, if it has one and
    flashlight-text is installed. Raises `ModelError` and `LanguageModelError`.
    """
    own = lm is None and find_spec("flashlight") is not None
    folder = _folder(source, [FILE, "language_model/*"] if own else [FILE])
    if lm is not None:
        files = find(Path(lm).expanduser()) if str(lm) != "none" else None
    else:
        files = find_in_checkpoint(folder) if own and folder else None
        if not own and folder and (folder / "language_model").is_dir():
            log.warning("%s has a language model, which needs: pip install 'xlsr-live[lm]'", source.name)
    return Assets(
        calibration=load_calibration(folder) if folder else None,
        language_model=LanguageModel(files, vocabulary) if files else None,
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
