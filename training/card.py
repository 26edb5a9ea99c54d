"""The model card, README.md of a fine-tuned checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..streaming.model.source import BUNDLED
from .base import Base

_KNOWN: Final = (  # licences of published bases, by the beginning of their names
    ("facebook/wav2vec2-xls-r-", "Apache-2.0"),
    ("facebook/wav2vec2-", "Apache-2.0"),
    ("facebook/mms-", "CC-BY-NC-4.0 (no commercial use)"),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """Error rates of one model on the validation recordings, each with its 95 % interval, as text."""

    name: str
    offline: str
    live: str
    final: str


@dataclass(frozen=True, slots=True)
class Card:
    name: str
    base: str
    base_licence: str
    data_licence: str
    language: str | None
    settings: dict[str, str]
    data: Sequence[str]  # sentences
    figures: Sequence[Figures]
    command: str  # that made the model
    serve: str  # that serves it
    machine: str


def licence_of(base: Base) -> str:
    """The licence that a base states, or where to look for it."""
    if Path(base.source.path) == BUNDLED:
        return "Apache-2.0; its data: docs/bundled-model.md of xlsr-live"
    for beginning, licence in _KNOWN:
        if base.name.startswith(beginning):
            return licence
    page = Path(base.source.path) / "README.md"
    if page.is_file() and (found := re.search(r"^license: *(\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)):
        return found[1]
    return f"not stated here: see the page of {base.name}"


def write_card(card: Card, folder: Path) -> Path:
    """Write README.md, with the header that the Hugging Face hub reads."""
    head = ["---", "library_name: transformers", "pipeline_tag: automatic-speech-recognition"]
    head += [f"base_model: {json.dumps(card.base)}"] if "/" in card.base else []
    head += [f"language: {card.language}"] if card.language else []
    head += ["tags: [speech-recognition, streaming, xlsr-live]", "---", ""]
    rows = [f"| {each.name} | {each.offline} | {each.live} | {each.final} |" for each in card.figures]
    lines = [
        f"# {card.name}",
        "",
        f"A speech recognizer for live use, fine-tuned from `{card.base}` with "
        "[xlsr-live](https://pypi.org/project/xlsr-live/).",
        "",
        "```sh",
        card.serve,
        "```",
        "",
        "## Error rates",
        "",
        "WER (%) on the validation recordings, with the 95 % interval of a bootstrap over utterances. *Offline*: one "
        "pass over a recording. *Live*: what live steps commit, with the default hop and lookahead. *Finals*: those of "
        "sessions with the default gate. The weights were chosen on these recordings, so new recordings give somewhat "
        "higher rates.",
        "",
        "| | offline | live | finals |",
        "|---|---|---|---|",
        *rows,
        "",
        "![Loss and validation error over the training](curves.png)",
        "",
        "## Data",
        "",
        *(f"- {sentence}" for sentence in card.data),
        "",
        "## Training",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in card.settings.items()),
        "",
        f"`{card.command}`, {card.machine}.",
        "",
        "## Licences",
        "",
        f"- Base: {card.base_licence}",
        f"- Data: {card.data_licence}",
        "",
    ]
    path = folder / "README.md"
    path.write_text("\n".join([*head, *lines]), encoding="utf-8")
    return path
