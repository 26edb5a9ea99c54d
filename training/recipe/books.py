"""The sentences for the language model and for the synthetic voices: the LM texts without the validation texts.

The books hold transcripts of a corpus that some validation speakers are from. The n-gram must not know them, because
its weight and the calibration are tuned on validation.
"""

from __future__ import annotations

import lzma
from pathlib import Path

from .prepare import runs, speech_in, split


def sentences(speech: Path) -> list[str]:
    """Lines of lm/english.txt.xz (books) that are neither the text of a held-out utterance nor share a run of words
    with one. Held out are all utterances of `train` that are not for training."""
    return _allowed(speech, "english.txt.xz")


def dialogue(speech: Path) -> list[str]:
    """The same for lm/spoken.txt.xz; an empty list if it does not exist."""
    return _allowed(speech, "spoken.txt.xz") if (speech / "lm" / "spoken.txt.xz").exists() else []


def _allowed(speech: Path, name: str) -> list[str]:
    held = {u.text for u in split(speech_in(speech / "train")) if u.split != "train"}
    known = {run for text in held for run in runs(text)}
    with lzma.open(speech / "lm" / name, "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    return [line for line in lines if line not in held and known.isdisjoint(runs(line))]
