"""Text for translators, and theirs for captions."""

from __future__ import annotations

import pytest
from xlsr_live.streaming.translation.text import finished, sentence, without_loops


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("I'M SURE A MAN LIKE I SAID", "I'm sure a man like I said."),
        ("P I T T S", "P I T T S."),
        ("ÇA VA ÉLISE", "Ça va élise."),
        ("ein Satz mit Groß und klein", "Ein Satz mit Groß und klein."),
        ("  SO   IT IS  ", "So it is."),
        ("Is it so?", "Is it so?"),
        ("你好", "你好."),
        ("", ""),
    ],
)
def test_a_sentence(written: str, expected: str):
    assert sentence(written) == expected


def test_captions_have_no_full_stop():
    assert finished(" es una  prueba. ") == "Es una prueba"
    assert finished("¿verdad?") == "¿verdad?"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("and so and so and so and so and so on", "and so on"),
        ("no no no", "no no no"),
        ("11111111", "11111111"),
        ("bye bye bye bye bye bye bye", "bye"),
    ],
)
def test_loops_of_a_decoder_are_removed(text: str, expected: str):
    assert without_loops(text) == expected
