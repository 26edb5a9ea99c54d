"""Text for translators, and text that comes from them.

A CTC model often writes only capitals, and no punctuation. Translators are trained on sentences.
"""

from __future__ import annotations

import re
from typing import Final

from ..captions.case import in_sentence

_STOP: Final = (".", "?", "!", "…", "。", "？", "！", "।", "؟")
_LOOP: Final = re.compile(r"(?<!\S)(\S+(?: \S+){0,11}?)(?: \1(?!\S)){3,}")  # a phrase four times in a row, or more


def sentence(text: str) -> str:
    """The text as a sentence: an initial capital, other letters small if the model writes no small ones, a full stop.

    Spelled letters, and the English "I", stay capitals.
    """
    text = " ".join(text.split())
    if text and not any(char.islower() for char in text):
        text = in_sentence(text, inside=True)
    text = text[:1].upper() + text[1:]
    return text if text.endswith(_STOP) or not text else text + "."


def finished(text: str) -> str:
    """The translation of such a sentence for a caption: without the full stop, as the original has none."""
    text = without_loops(" ".join(text.split()))
    return text[:1].upper() + text[1:].removesuffix(".").rstrip()


def without_loops(text: str) -> str:
    """The text with each phrase that occurs at least four times in a row once: decoders get stuck in loops."""
    return _LOOP.sub(r"\1", text)
