"""What a checkpoint may bring with it beside the model: the calibration of its confidences, a language model, and the
label priors for any language model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

from ..ctc.assets import Assets
from ..ctc.calibration import FILE, load_calibration
from ..ctc.lm import Files, LanguageModel, find, find_in_checkpoint
from ..ctc.priors import FILE as PRIORS
from ..ctc.priors import load_priors
from ..ctc.vocabulary import Vocabulary
from ..errors import LanguageModelError, ModelError, first_line
from .source import BUNDLED, Source

log = logging.getLogger("xlsr_live.model")


def load_assets(
    source: Source | None, vocabulary: Vocabulary, lm: Path | str | None = None, calibration: Path | str | None = None
) -> Assets:
    """`lm` is the file or folder of a language model; "bundled", the one in the package; "none"; or None: the
    checkpoint's own, if it has one. `calibration` is a file or the folder of one; or
    None: the checkpoint's own, if it has one. Raises `ModelError` and `LanguageModelError`.
    """
    own = lm is None
    searches = str(lm) != "none"
    beside = [FILE, *([PRIORS] if searches else []), *(["language_model/*"] if own else [])]
    folder = source and _folder(source, beside)
    files: Files | None = None
    if own:
        files = find_in_checkpoint(folder) if folder else None
    elif str(lm) == "bundled":
        if (files := find_in_checkpoint(BUNDLED)) is None:
            raise LanguageModelError("this package was built without a language model: name another one")
    elif searches:
        files = find(Path(lm).expanduser())
    place = folder if calibration is None else Path(calibration).expanduser()
    curves = load_calibration(place) if place else None
    if calibration is not None and curves is None:
        raise ModelError(f"{place} is no calibration and no folder that holds {FILE}")
    priors = load_priors(folder, len(vocabulary)) if folder and files else None
    return Assets(
        calibration=curves,
        language_model=LanguageModel(files, vocabulary, log.info, priors) if files else None,
        lm_in_partials=files is not None and source is not None and source.name == "bundled",
    )


def load_language_assets(
    source: Source,
    language: str,
    vocabulary: Vocabulary,
    lm: Path | str | None = None,
    calibration: Path | str | None = None,
    *,
    default: bool,
) -> Assets:
    """Those of one language of a multilingual checkpoint: of the folder `languages/LANGUAGE` in it, or of a subfolder
    LANGUAGE of `lm` and of `calibration`. Everything else belongs to the default language. Raises `ModelError` and
    `LanguageModelError`.
    """
    folder = _folder(source, [f"languages/{language}/{name}" for name in (FILE, PRIORS, "language_model/*")])
    own = folder and folder / "languages" / language
    place = Source(source.name, str(own), {}) if own and own.is_dir() else source if default else None
    return load_assets(
        place,
        vocabulary,
        _of_language(lm, language, default) if lm is not None else None,
        _of_language(calibration, language, default) if calibration is not None else None,
    )


def _of_language(given: Path | str, language: str, default: bool) -> Path | str | None:
    if str(given) == "none":
        return given
    place = Path(given).expanduser()
    if (place / language).is_dir():
        return place / language
    inside = list(place.iterdir()) if place.is_dir() else []
    by_language = bool(inside) and all(each.is_dir() for each in inside)  # and this language is none of them
    return given if default and not by_language else None


def _folder(source: Source, names: list[str]) -> Path | None:
    """Where the files lie; those of a checkpoint on the hub are fetched, if they are there."""
    if not source.options:
        return Path(source.path)
    import huggingface_hub

    try:
        return Path(cast(Any, huggingface_hub).snapshot_download(source.path, **source.options, allow_patterns=names))
    except Exception as error:  # also those of the hub's HTTP library, which have no public base
        log.warning("what lies beside %s cannot be fetched: %s", source.name, first_line(error))
        return None
