"""The characters of a new model: those of the transcripts, in one case and Unicode form.

Letters and marks stay, in Unicode's composed form (NFC); apostrophes stay where they are inside words. Punctuation,
symbols and invisible characters become blanks. A letter that is rarer than `RARE` is left out and reported, since a
model cannot learn it. Digits are left out too: people say words, and no rule here knows them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ..streaming.ctc.spelling import APOSTROPHES
from ..streaming.ctc.vocabulary import Vocabulary
from .base import DELIMITER, SPECIAL

Case = Literal["upper", "lower", "as it is"]
RARE: Final = 3  # a letter must occur so often
_APOSTROPHE: Final = re.compile(rf"(?<=\w)[{APOSTROPHES}](?=\w)")
_TURKIC: Final = str.maketrans({"I": "ı", "İ": "i"})


@dataclass(frozen=True, slots=True)
class Alphabet:
    """Tokens of a new CTC head, and why they are these."""

    tokens: tuple[str, ...]  # by id; the first is the blank
    case: Case
    counts: dict[str, int]  # how often each letter occurs
    rare: dict[str, str]  # letters that were left out, and a text with each

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.from_tokens(self.tokens, blank=0, delimiter=DELIMITER, silent=SPECIAL)


def choose_alphabet(texts: Sequence[str]) -> Alphabet:
    """The alphabet of these transcripts.

    Texts all in upper case stay so; others become lower case. Where almost no text has a blank, as in Chinese, the
    vocabulary has no word boundary.
    """
    texts = [unicodedata.normalize("NFC", text) for text in texts]
    case = _case(texts)
    letters = [_letters(text, case) for text in texts]
    counts = Counter(letter for text in letters for letter in text)
    least = RARE if sum(counts.values()) >= 1000 else 1
    rare = {letter for letter, count in counts.items() if count < least}
    words = sum(" " in text.strip() for text in texts) > len(texts) / 20 or not _unspaced(counts)
    tokens = (*SPECIAL, *([DELIMITER] if words else ()), *sorted(set(counts) - rare))
    pairs = [*zip(texts, letters, strict=True)]
    examples = {letter: next(text for text, own in pairs if letter in own) for letter in sorted(rare)}
    return Alphabet(tokens, case, dict(counts.most_common()), examples)


def _case(texts: Sequence[str]) -> Case:
    upper, lower = (sum(test(c) for text in texts for c in text) for test in (str.isupper, str.islower))
    if not upper and not lower:
        return "as it is"
    return "upper" if not lower else "lower"


def _letters(text: str, case: Case) -> str:
    """The letters and marks of a text, with apostrophes inside words."""
    if case == "lower":
        text = (text.translate(_TURKIC) if set("ığşİĞŞ") & set(text) else text).lower()
    apostrophes = "'" * len(_APOSTROPHE.findall(text))
    return "".join(c for c in text if unicodedata.category(c)[0] in "LM") + apostrophes


def _unspaced(counts: Counter[str]) -> bool:
    """Whether most letters are of scripts that are written without blanks between words."""
    names = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
    count = sum(n for letter, n in counts.items() if unicodedata.name(letter, "").startswith(names))
    return 2 * count > sum(counts.values())
