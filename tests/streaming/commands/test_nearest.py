"""Phrases of a grammar that are nearest to words outside it."""

from __future__ import annotations

import pytest
from xlsr_live.streaming.commands.compiled import CompiledGrammar
from xlsr_live.streaming.ctc.vocabulary import Vocabulary

LETTERS = Vocabulary(("", " ", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"), 0)
HOUSE = """
light: [turn] (state: on | off) the (room: <room>) light
lights: lights (state: on | off) in the (room: <room>)
stop: stop
<room> = kitchen | (bath | bathroom)=bath
"""


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("turn on the chicken light", "TURN ON THE KITCHEN LIGHT"),
        ("light on in the kitchen", "LIGHTS ON IN THE KITCHEN"),
        ("turn off bathroom light please", "TURN OFF THE BATHROOM LIGHT"),
        ("stopp", "STOP"),
    ],
)
def test_the_nearest_phrase_comes_first(words: str, first: str):
    found = CompiledGrammar(HOUSE, LETTERS).nearest(words)
    assert found[0] == first
    assert len(found) == len(set(found)) <= 3


def test_every_phrase_is_a_command():
    grammar = CompiledGrammar(HOUSE, LETTERS)
    for words in ("turn it on", "the the the", "bath light", "lights"):
        assert all(grammar.understand(phrase) for phrase in grammar.nearest(words))


def test_words_with_nothing_in_common_have_no_neighbour():
    assert CompiledGrammar("stop: stop", LETTERS).nearest("xyz") == []


def test_a_large_grammar_ends_the_search():
    grammar = CompiledGrammar("code: <digit>{1,40}", LETTERS)
    assert len(grammar.nearest(" ".join(["once"] * 40))) <= 3
