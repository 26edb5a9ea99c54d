"""Punctuation and case of finals, for people: the rule without a model, and the words of the text with it."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

import msgspec

from ..protocol.events import Final, Word
from .case import in_sentence

Punctuate = Callable[[str, bool], str]  # from the text of a final; False: its utterance was cut at its greatest length


def punctuate_pauses(text: str, ended: bool) -> str:
    """Sentence case, and a full stop unless the utterance was cut. A sentence may go on after a pause, so this is only
    a guess."""
    shown = text if any(char.islower() for char in text) else in_sentence(text)
    return shown[:1].upper() + shown[1:] + "." * ended


def same_words(text: str, shown: str) -> bool:
    """Whether two texts differ only in case and in characters that are no letters, digits or marks."""

    def letters(each: str) -> str:
        return "".join(char for char in each.casefold() if unicodedata.category(char)[0] in "LMN")

    return letters(text) == letters(shown)


def as_displayed(final: Final) -> Final:
    """A final with its `display_text` as the text, also in its words, where both have the same number of them."""
    if not isinstance(final.display_text, str):
        return final
    shown = final.display_text.split(" ")
    return msgspec.structs.replace(final, text=final.display_text, words=_shown(final.words, shown))


def _shown(words: Sequence[Word], shown: Sequence[str]) -> tuple[Word, ...]:
    if len(words) != len(shown):
        return tuple(words)
    return tuple(msgspec.structs.replace(word, word=text) for word, text in zip(words, shown, strict=True))
