"""The sentences for the language model and for the synthetic voices: those of the LM text that validation does not say.

The text holds transcripts of the corpus that some validation speakers are from. What is tuned on validation (the weight
of the n-gram, its calibration) must not have read them.
"""

from __future__ import annotations

import lzma
from pathlib import Path

from .prepare import speech_in, split

RUN = 6  # words in a row that no sentence may have in common with a held-out one


def sentences(speech: Path) -> list[str]:
    """Lines of lm/english.txt.xz that neither are the text of a held-out utterance nor share a run of words with one.

    Held out are all utterances of `train` that are not for training. Both texts are spelled alike: A-Z, ', space.
    """
    held = {u.text for u in split(speech_in(speech / "train")) if u.split != "train"}
    known = {run for text in held for run in runs(text)}
    with lzma.open(speech / "lm" / "english.txt.xz", "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    return [line for line in lines if line not in held and known.isdisjoint(runs(line))]


def runs(text: str) -> zip:
    """Every `RUN` words in a row, as tuples."""
    words = text.split()
    return zip(*(words[i:] for i in range(RUN)), strict=False)
