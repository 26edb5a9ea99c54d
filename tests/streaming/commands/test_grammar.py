"""The grammar language: printing and parsing are inverse, errors have a position, and words map to their values."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.commands.compiled import CompiledGrammar
from xlsr_live.streaming.commands.expressions import (
    Alternatives,
    Capture,
    CommandGrammar,
    Concatenation,
    Expression,
    Repeat,
    RuleRef,
    Tagged,
    Terminal,
)
from xlsr_live.streaming.commands.grammar import parse_grammar
from xlsr_live.streaming.commands.numbers import LARGEST, spoken
from xlsr_live.streaming.ctc.vocabulary import Vocabulary
from xlsr_live.streaming.errors import ConfigError, GrammarError

LATIN = Vocabulary.from_tokens(["<pad>", "<s>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"], blank=0, silent=["<s>"])
LATIN_É = Vocabulary.from_tokens(["<pad>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZÉ"], blank=0)

names = st.from_regex(r"[a-z][a-z0-9_-]{0,5}", fullmatch=True)
texts = st.text(st.characters(exclude_characters='"\n\r', exclude_categories=["Cs"]), max_size=6)
leaves = st.builds(Terminal, st.from_regex(r"[a-zäé'-]{1,6}", fullmatch=True)) | st.builds(
    RuleRef, names, st.none() | st.tuples(st.integers(0, 99), st.integers(0, 99))
)


def larger(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    counts = st.tuples(st.integers(0, 3), st.none() | st.integers(1, 5)).filter(lambda c: c[1] is None or c[0] <= c[1])
    return (
        st.builds(Concatenation, several)
        | st.builds(Alternatives, several)
        | st.builds(lambda body, count: Repeat(body, *count), inner, counts)
        | st.builds(Capture, names, inner)
        | st.builds(Tagged, inner, st.integers(1 - 10**18, 10**18 - 1) | texts)
    )


expressions = st.recursive(leaves, larger, max_leaves=12)
tables = st.dictionaries(names, expressions, max_size=3)


@given(tables.filter(bool), tables)
@settings(max_examples=100, deadline=None)
def test_printing_and_parsing_a_grammar_are_inverse(commands, rules):
    grammar = CommandGrammar(commands, rules)
    assert parse_grammar(str(grammar)) == grammar


@given(st.text(st.sampled_from('ab <>()[]{}|:=+*"#1,.\n'), max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_grammar_or_an_error_with_a_position(text):
    try:
        CompiledGrammar(text, LATIN)
        place = (1, 1)
    except GrammarError as error:
        place = (error.line, error.column)
    assert 1 <= place[0] <= text.count("\n") + 1
    assert 1 <= place[1] <= max(map(len, text.split("\n"))) + 1


MISTAKES = {
    "": (1, 1, "no command"),
    "<a> = b": (1, 1, "no command"),
    "a: (b": (1, 6, "expected ')'"),
    "a: b]": (1, 5, "does not belong"),
    "a: b | ": (1, 8, "words are missing"),
    "a:\nb: c": (2, 1, "words are missing"),
    "a: b{2": (1, 5, "{ is unmatched"),
    "a: b{3,2}": (1, 5, "no range"),
    "a: b{x}": (1, 5, "repetition"),
    "a: b=": (1, 6, "after '='"),
    "a: b\na: c": (2, 1, "defined twice"),
    "  a: b": (1, 3, "left margin"),
    "a b": (1, 3, "expected ':'"),
    "1: b": (1, 1, "expected the name"),
    "a: x\n  <b>": (2, 3, "no rule <b>"),
    "a: x <b>\n<b> = y [<c>]\n<c> = z <b>": (3, 9, "uses itself"),
    "a: x\n<b> = <b>": (2, 7, "uses itself"),
    "a: <number 5..2>": (1, 4, "no range"),
    "a: <number 0..1000>": (1, 4, "no range"),
    "a: <digit 1..2>": (1, 4, "no rule"),
    "a: x\nb: [x] y*": (2, 1, "without a word"),
    "a: set 5 to größe": (1, 8, "no 5"),
    "a: one\n  größe": (2, 3, "no ö"),
    "a: (((<number 0..999>){9} b){9}){9}": (1, 7, "too large"),
    "(" * 200: (1, 1, "expected the name"),
    "a: " + "(" * 200: (1, 34, "brackets"),
}


@pytest.mark.parametrize("text", list(MISTAKES), ids=lambda text: repr(text[:30]))
def test_errors_have_a_position(text: str):
    line, column, why = MISTAKES[text]
    with pytest.raises(GrammarError, match=rf"^line {line}, column {column}: ") as caught:
        CompiledGrammar(text, LATIN)
    assert why in str(caught.value)
    assert (caught.value.line, caught.value.column, caught.value.code) == (line, column, "bad_grammar")
    assert isinstance(caught.value, ConfigError)


HOUSE = """
# a house
light: [turn | switch] (state: on | off) the (room: <room>) light
timer: [set a] timer (length: (minutes: <number 1..90>) minute[s]=m
   | (an hour and a half)="1:30")
code: (code: <digits>)
pick: (thing: apple | pear)+
sizes: (size: <number 0..9> <number 0..9>)
words: note (text: any old <number 0..9> words)
later: the kitchen light
light-again: on the kitchen light
<room> = kitchen | living room | (bath | bathroom)=bath
<s> = s
""".replace("minute[s]=m", "(minute | minutes)")


def slots(words: str, grammar: str = HOUSE) -> tuple[str, list[tuple[str, object, int, int]]]:
    meaning = CompiledGrammar(grammar, LATIN).interpret(words.split())
    assert meaning is not None
    return meaning.command, [tuple(slot) for slot in meaning.slots]


def test_slots_hold_the_spoken_words_or_their_declared_value():
    assert slots("SWITCH OFF THE LIVING ROOM LIGHT") == (
        "light",
        [("state", "off", 1, 2), ("room", "living room", 3, 5)],
    )
    assert slots("ON THE BATHROOM LIGHT") == ("light", [("state", "on", 0, 1), ("room", "bath", 2, 3)])
    assert slots("OH ONE ZERO") == ("code", [("code", "010", 0, 3)])
    assert slots("PEAR APPLE") == ("pick", [("thing", "pear", 0, 1), ("thing", "apple", 1, 2)])
    assert slots("FOUR TWO")[1] == [("code", "42", 0, 2)]  # the first of two matching commands
    assert slots("FOUR TWO", "sizes: (size: <number 0..9> <number 0..9>)")[1] == [("size", [4, 2], 0, 2)]
    assert slots("NOTE ANY OLD SIX WORDS")[1] == [("text", "any old 6 words", 1, 5)]
    assert slots("ON THE KITCHEN LIGHT")[0] == "light"
    assert slots("THE KITCHEN LIGHT") == ("later", [])
    # A slot within a slot; a value for several words.
    assert slots("TIMER TWENTY ONE MINUTES") == ("timer", [("length", "21 minutes", 1, 4), ("minutes", 21, 1, 3)])
    assert slots("SET A TIMER AN HOUR AND A HALF")[1] == [("length", "1:30", 3, 8)]


def test_words_outside_the_grammar_match_no_command():
    commands = CompiledGrammar(HOUSE, LATIN)
    for words in ("", "LIGHT", "ON THE KITCHEN", "ON THE KITCHEN LIGHT NOW", "TIMER NINETY ONE MINUTES"):
        assert commands.interpret(words.split()) is None


def test_repetitions_are_counted():
    commands = CompiledGrammar("a: x{2,3}\nb: y{2}\nc: [z]{3} w\nd: v{2,} u*", LATIN)
    accepted = {"X" * n for n in (2, 3)} | {"YY"} | {"Z" * n + "W" for n in range(4)}
    accepted |= {"V" * n + "U" * m for n in (2, 3, 4) for m in range(3)}
    candidates = ["X" * n for n in range(5)] + ["Y" * n for n in range(4)] + ["Z" * n + "W" for n in range(5)]
    candidates += ["V" * n + "U" * m for n in range(5) for m in range(3)]
    assert {text for text in candidates if commands.interpret(list(text))} == accepted


@given(st.integers(0, LARGEST))
@settings(deadline=None)
def test_numbers_have_their_own_value(value: int):
    def words(parts: list[Expression]) -> list[str]:
        return [word for p in parts for word in ([p.text] if isinstance(p, Terminal) else words([p.body]))]

    text = " ".join(words(spoken(value))).upper()
    low, high = max(0, value - 1), min(LARGEST, value + 1)
    assert slots(text, f"n: (n: <number {low}..{high}>)")[1][0][1] == value
    assert slots(text.replace(" AND ", " "), f"n: (n: <number {low}..{high}>)")[1][0][1] == value


def test_words_take_the_case_of_the_vocabulary():
    lower = Vocabulary.from_tokens(["<pad>", "|", *"abcst", "ß"], blank=0)
    assert (
        CompiledGrammar("x: (s: Straß CAB)".replace("r", ""), lower).interpret(["staß", "cab"]).slots[0].value
        == "Staß CAB"
    )
    upper = Vocabulary.from_tokens(["<pad>", "|", *"ABCST"], blank=0)
    assert CompiledGrammar("x: staß", upper).interpret(["STASS"])


def test_a_hyphen_that_the_vocabulary_lacks_separates_words():
    commands = CompiledGrammar("send: (what: e-mail) to (whom: l’abbé-Straße)", LATIN_É)
    assert commands.notes == ["the model writes 'l’abbé-Straße' as \"L'ABBÉ STRASSE\""]
    meaning = commands.interpret(["E", "MAIL", "TO", "L'ABBÉ", "STRASSE"])
    assert meaning is not None
    assert [tuple(slot) for slot in meaning.slots] == [("what", "e-mail", 0, 2), ("whom", "l’abbé-Straße", 3, 5)]
    assert commands.understand("e‑mail to l'abbe\u0301 strasse") == meaning


def test_without_word_boundaries_characters_are_the_units():
    units = Vocabulary.from_tokens(["<pad>", *"开关灯大厅"], blank=0, delimiter=None)
    commands = CompiledGrammar("灯: (做: 开 | 关) (哪: 大厅) 灯", units)
    meaning = commands.interpret(["开", "大", "厅", "灯"])
    assert [(slot.name, slot.value) for slot in meaning.slots] == [("做", "开"), ("哪", "大厅")]


def test_subword_vocabularies_must_be_able_to_spell_a_word():
    pieces = Vocabulary.from_tokens(["<pad>", "|", "TH", "E", "ING", "S"], blank=0)
    assert CompiledGrammar("x: thing these", pieces).interpret(["THING", "THESE"])
    with pytest.raises(GrammarError, match=r"column 7: the model cannot write hint"):
        CompiledGrammar("x: the hint".replace("the ", "es "), pieces)
