"""Recognizers on small multilingual checkpoints."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path

from xlsr_live.streaming.recognizer import Recognizer

from tests.support.checkpoints import LETTERS, NO_DELIMITER, SUB_WORDS, publish_multilingual

LANGUAGES = {"deu": LETTERS, "cmn-script_simplified": NO_DELIMITER, "eng": SUB_WORDS}
SPOKEN = LANGUAGES | {"xho": LETTERS}
MMS_LANGUAGES = 1_162  # of facebook/mms-1b-all


@contextmanager
def multilingual_recognizer(
    directory: Path, languages: Mapping[str, tuple[str, ...]] = LANGUAGES
) -> Iterator[Recognizer]:
    """Sessions must name their language, as with MMS, whose tokenizer names English."""
    publish_multilingual(directory, languages, target="eng")
    with Recognizer.load(str(directory), device="cpu") as recognizer:
        yield recognizer


def publish_mms(directory: Path) -> Path:
    """As many languages as `facebook/mms-1b-all` has. Four are `SPOKEN`; the others have codes of no real language."""
    publish_multilingual(directory, SPOKEN, target="eng")
    others = (
        f"q{one}{two}-dialect_{three}" for one, two, three in product("abcdefghijklmnopqrst", "abcdef", "0123456789")
    )
    vocabularies = json.loads((directory / "vocab.json").read_text())
    for code, _ in zip(others, range(MMS_LANGUAGES - len(SPOKEN)), strict=False):
        vocabularies[code] = vocabularies["deu"]
        os.link(directory / "adapter.deu.safetensors", directory / f"adapter.{code}.safetensors")
    (directory / "vocab.json").write_text(json.dumps(vocabularies))
    return directory
