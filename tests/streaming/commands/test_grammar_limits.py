"""Bounds on the cost of a hostile grammar, counted in steps and cells so that machine load does not matter."""

from __future__ import annotations

import random
import string
from itertools import product

import numpy as np
import pytest
from xlsr_live.streaming.commands.automaton import Automaton
from xlsr_live.streaming.commands.budget import Budget, TooLarge
from xlsr_live.streaming.commands.compiled import CompiledGrammar, compiled
from xlsr_live.streaming.commands.decision import Strictness
from xlsr_live.streaming.commands.machine import MAX_SIZE, Machine, minimal
from xlsr_live.streaming.commands.matcher import CommandMatcher
from xlsr_live.streaming.commands.viterbi import MAX_ALIVE, Viterbi
from xlsr_live.streaming.ctc.vocabulary import Vocabulary
from xlsr_live.streaming.errors import GrammarError

LATIN = Vocabulary.from_tokens(["<pad>", "|", *string.ascii_uppercase], blank=0)
SIGNS = Vocabulary.from_tokens(["<pad>", *map(chr, range(0x4E00, 0x4E00 + 900))], blank=0, delimiter=None)
draw = random.Random(0)


def words(count: int, length: int) -> list[str]:
    return ["".join(draw.choices(string.ascii_lowercase, k=length)) for _ in range(count)]


TOO_LARGE = {
    "repeats in repeats": "a: (a{1000}){1000}",
    "numbers in repeats": "a: (<number 0..999> b | c){2,20}",
    "a long chain": "a: (ab{100}){120}",
    "optional words in a row": "a: b " + " ".join(f"[{word}]" for word in words(400, 4)),
    "the same word, often left out": "a: b ([a]){1000}",
    "all subsets of the last twenty words": "a: (a | b)* a (a | b){20}",
    "one large rule in many places": f"<r> = {' | '.join(words(900, 8))}\n"
    + "\n".join(f"{word}: {word} <r> {word}" for word in words(20, 5)),
    "rules that use rules": "a: <r0>\n" + "\n".join(f"<r{at}> = <r{at + 1}>" for at in range(900)) + "\n<r900> = a",
    "rules that double": "a: <r0>\n"
    + "\n".join(f"<r{at}> = <r{at + 1}> <r{at + 1}>" for at in range(40))
    + "\n<r40> = a",
    "brackets in brackets": "a: " + "(" * 40 + "a" + ")" * 40,
    "suffixes on suffixes": "a: a" + "{2}" * 40,
    "one endless word": "a: " + "a" * 1_000,
    "too much text": "a: b\n" * 5_000,
    "no number": "a: a{" + "9" * 5_000 + "}",
}


@pytest.mark.parametrize("text", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_grammar_above_a_limit_is_an_error_with_a_position(text: str):
    with pytest.raises(GrammarError, match=r"^line \d+, column \d+: "):
        CompiledGrammar(text, LATIN)


LARGE = {
    "a star of a star": "a: b ((a*)*)* | (a+)+",
    "the longest chain": "a: (" + "a" * 30 + "{100}){9}",
    "many words": "a: " + " | ".join(words(1_200, 13)),
    "many words, again and again": "a: (" + " | ".join(words(1_900, 7)) + ")+",
    "three numbers": "a: <number 0..999>{3}",
    "phrases": "\n".join(f"c{at}: {' '.join(words(3, 6))}" for at in range(500)),
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_a_grammar_at_a_limit_stays_within_all_limits(text: str, monkeypatch: pytest.MonkeyPatch):
    commands = CompiledGrammar(text, LATIN)
    automaton = commands.automaton
    assert automaton.size <= 2 * MAX_SIZE + 1
    assert max(len(automaton.arc_source), len(automaton.first) - 1) <= MAX_SIZE
    rows = np.random.default_rng(0).normal(0, 1, (40, len(LATIN))).astype(np.float32)
    viterbi = Viterbi(automaton)
    for frame, row in enumerate(rows - rows.max(axis=1, keepdims=True)):
        viterbi.step(row, enter=-np.inf if frame else 0.0, floor=np.float32(-1e6))
        assert np.isfinite(viterbi.scores).sum() <= MAX_ALIVE


def test_a_complete_graph_of_tokens_is_refused():
    """A state with n tokens in and n tokens out costs n * n comparisons."""
    signs = [text for text in SIGNS.texts if text]
    assert CompiledGrammar(f"a: ({' | '.join(signs[:200])})+", SIGNS).automaton.size < 1_000
    with pytest.raises(GrammarError, match="too large"):
        CompiledGrammar(f"a: ({' | '.join(signs)})+", SIGNS)


@pytest.mark.parametrize("seed", range(40))
def test_minimization_keeps_the_language(seed: int):
    """Compares all words of up to six letters, and the number of distinct futures with the number of states."""
    rng = random.Random(seed)
    size = rng.randint(1, 9)
    machine = Machine(
        [{letter: rng.randrange(size) for letter in "ab" if rng.random() < 0.7} for _ in range(size)],
        [rng.choice([-1, -1, 0, 1]) for _ in range(size)],
    )

    def ending(machine: Machine[str], word: tuple[str, ...], at: int = 0) -> int | None:
        for letter in word:
            if letter not in machine.arcs[at]:
                return None
            at = machine.arcs[at][letter]
        return machine.ends[at]

    every = [word for length in range(7) for word in product("ab", repeat=length)]
    small = minimal(machine)
    assert [ending(small, word) for word in every] == [ending(machine, word) for word in every]
    longer = [word for length in range(10) for word in product("ab", repeat=length)]
    futures = {tuple(ending(machine, word, state) for word in longer) for state in range(size)}
    assert len(small.arcs) == len(futures)


def test_a_long_chain_compiles():
    chain = Machine([{"a": at + 1} for at in range(20_000)] + [{}], [-1] * 20_000 + [0])
    assert len(minimal(chain).arcs) == 20_001


def test_equal_grammars_are_compiled_once():
    assert compiled("a: one", LATIN) is compiled("a: one", Vocabulary(LATIN.texts, LATIN.blank))
    assert compiled("a: one", LATIN) is not compiled("a: two", LATIN)


def test_a_parse_above_the_step_limit_gives_no_reading(monkeypatch: pytest.MonkeyPatch):
    commands = CompiledGrammar("a: (<number 0..99>)+", LATIN)
    words = ["FORTY", "TWO"] * 10
    assert commands.interpret(words) is not None
    assert commands.interpret([*words] * 1_000) is None
    with pytest.raises(TooLarge):
        commands.interpret(words, Budget(1_000))


def test_an_early_decision_is_not_made_among_too_many_rivals():
    """With too many possible continuations the decision waits for the end."""
    many = CompiledGrammar("\n".join(f"{word}: {word}" for word in dict.fromkeys(words(300, 3))), LATIN)
    flat = np.full((30, len(LATIN)), -np.log(len(LATIN)), np.float32)
    flat[:, LATIN.blank] += 0.1
    listener = CommandMatcher(many, Strictness(score=0.01, word_score=0, letter_cost=1e9, settle=5))
    assert listener.push(flat) is None
    assert isinstance(many.automaton, Automaton)
