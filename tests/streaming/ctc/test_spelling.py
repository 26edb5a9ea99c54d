"""Words typed in another form than in the vocabulary: case, Unicode, apostrophes, hyphens, invisible characters."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.ctc.spelling import APOSTROPHES, HYPHENS, Speller
from xlsr_live.streaming.ctc.vocabulary import Vocabulary

UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LOWER = UPPER.lower()
TURKISH = "abcçdefgğhıijklmnoöprsştuüvyz"
TURKISH_UPPER = "ABCÇDEFGĞHIİJKLMNOÖPRSŞTUÜVYZ"
GREEK = "αβγδεζηθικλμνξοπρσςτυφχψω"


def speller(letters: str, delimiter: str | None = "|") -> Speller:
    tokens = ["<pad>", *letters, *([delimiter] if delimiter else [])]
    return Speller(Vocabulary.from_tokens(tokens, blank=0, delimiter=delimiter))


def spelled(letters: str, typed: str, delimiter: str | None = "|") -> list[str | None]:
    one = speller(letters, delimiter)
    return [one.spell(unit) for unit in one.units(typed)]


@pytest.mark.parametrize(
    ("letters", "typed", "written"),
    [
        (UPPER + "ẞ", "straße", ["STRAẞE"]),
        (UPPER + "ẞ", "Strasse", ["STRASSE"]),
        (LOWER + "ß", "STRAẞE", ["straße"]),
        (LOWER + "é", unicodedata.normalize("NFD", "café"), ["café"]),
        (LOWER + "\u0301", "café", ["cafe\u0301"]),
        (LOWER + "é", "CAFÉ", ["café"]),
        ("\u0958ा", "\u0915\u093c\u093e", ["\u0958ा"]),  # Unicode composes this letter in no form
        (LOWER + "'", "l’eau", ["l'eau"]),
        (LOWER + "’", "l'eau", ["l’eau"]),
        (LOWER + "-", "e‑mail", ["e-mail"]),
        (LOWER + "-", "Paris–Nice", ["paris-nice"]),
        (LOWER, "e-mail", ["e", "mail"]),
        (LOWER, "one – two", ["one", None, "two"]),
        (LOWER, "new\u00a0york\u202fcity", ["new", "york", "city"]),
        (LOWER, "zero\u200bwidth soft\u00adhyphen", ["zero", "width", "softhyphen"]),
        (TURKISH, "İstanbul", ["istanbul"]),
        (TURKISH, "ISPARTA", ["ısparta"]),
        (TURKISH_UPPER, "istanbul", ["İSTANBUL"]),
        (TURKISH_UPPER, "ısparta", ["ISPARTA"]),
        (LOWER, "İstanbul", ["istanbul"]),
        (LOWER + "ı", "ISLAND", ["island"]),  # a stray ı does not make an alphabet Turkish
        (GREEK, "ΣΟΦΟΣ", ["σοφος"]),
        (UPPER, "ﬁne ＡＢＣ", ["FINE", "ABC"]),
    ],
)
def test_a_word_is_written_in_the_letters_of_the_vocabulary(letters: str, typed: str, written: list[str | None]):
    assert spelled(letters, typed) == written


def test_without_boundaries_letters_are_composed_before_they_are_counted():
    assert spelled("がく", unicodedata.normalize("NFD", "がく"), None) == ["が", "く"]


@pytest.mark.parametrize(
    ("letters", "typed", "written"),
    [
        (UPPER, "straße", "STRASSE"),
        (UPPER, "die STRAẞE", "DIE STRASSE"),
        (UPPER, "İstanbul", "ISTANBUL"),
        (UPPER, "ﬁne", "FINE"),
        (UPPER + "ẞ", "straße", None),
        (LOWER + "é", "CAFE\u0301", None),
        (LOWER + "'", "l’eau", None),
        (LOWER, "e-mail", None),
        (TURKISH, "İstanbul", None),
    ],
)
def test_only_other_letters_are_reported(letters: str, typed: str, written: str | None):
    assert speller(letters).respelled(typed) == written


def test_characters_outside_the_vocabulary_are_named():
    assert spelled(UPPER, "café") == [None]
    assert speller(UPPER).unknown(unicodedata.normalize("NFD", "café")) == ["é"]
    assert speller(UPPER).unknown("l’eau 7") == ["’", " ", "7"]


@given(st.text(st.characters(codec="utf-8"), max_size=20), st.sampled_from([UPPER, LOWER + "é'-ß", TURKISH, GREEK]))
@settings(deadline=None)
def test_a_spelling_holds_only_letters_of_the_vocabulary_and_spells_itself(typed: str, letters: str):
    one = speller(letters)
    for unit in one.units(typed):
        if (written := one.spell(unit)) is not None:
            assert set(written) <= set(letters)
            assert one.spell(written) == written
            assert one.respelled(written) is None
        else:
            assert one.unknown(unit)


@given(st.sampled_from(APOSTROPHES), st.sampled_from(HYPHENS))
@settings(deadline=None)
def test_every_apostrophe_and_hyphen_is_the_vocabularys(apostrophe: str, hyphen: str):
    assert spelled(LOWER + "'-", f"o{apostrophe}clock{hyphen}face") == ["o'clock-face"]
