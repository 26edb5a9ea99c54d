"""Which languages a checkpoint knows, without loading it: MMS keeps a vocabulary for each in one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, cast

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError

from ..errors import ModelError
from .source import Source

FILE: Final = "vocab.json"


def known_languages(source: Source) -> tuple[str, ...] | None:
    """Codes of the languages that a checkpoint has a vocabulary for, sorted; None if it has one vocabulary for all.

    Raises `ModelError` if the file cannot be read.
    """
    try:
        vocabulary = json.loads(_path(source).read_bytes())
    except (OSError, ValueError, HfHubHTTPError) as error:
        first = str(error).strip().split("\n")[0]
        raise ModelError(f"{FILE} of {source.name} cannot be read: {first}") from error
    if not isinstance(vocabulary, dict) or not vocabulary:
        return None
    entries = cast(dict[str, Any], vocabulary)
    return tuple(sorted(entries)) if all(isinstance(value, dict) for value in entries.values()) else None


def _path(source: Source) -> Path:
    if not source.options:
        return Path(source.path) / FILE
    return Path(cast(Any, huggingface_hub).hf_hub_download(source.path, FILE, **source.options))
