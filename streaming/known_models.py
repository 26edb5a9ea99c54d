"""Short names of checkpoints on the Hugging Face hub, and what their cards say."""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import msgspec


class KnownModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A checkpoint with a short name. Empty fields are unknown."""

    hub: str  # owner/model
    languages: str
    use: str  # what it is good for
    language: str | None = None  # BCP 47; None if it has several
    revision: str | None = None  # the commit that the other fields describe
    parameters: str = ""
    licence: str = ""
    wer: str = ""  # word error rates in percent, from the model's card


@cache
def known_models() -> dict[str, KnownModel]:
    """The checkpoints by short name."""
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, KnownModel])


def language_of(name: str) -> str | None:
    """The BCP 47 tag of the language of a checkpoint, by its name on the hub; None if it is unknown."""
    if name == "bundled":
        return "en"
    return next((model.language for model in known_models().values() if model.hub == name), None)


def similar_names(name: str) -> str:
    """The nearest short names, as the end of an error message."""
    names = get_close_matches(name.lower(), ["bundled", *known_models()], 3, cutoff=0.5)
    near = f"; did you mean {', '.join(names)}?" if names else ""
    return f"{near} (short names: xlsr-live models)"
