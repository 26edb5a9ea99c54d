"""Viterbi over automata: equal to the enumeration of all paths, for any split, with further paths in order."""

from __future__ import annotations

from itertools import groupby, product
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.commands.automaton import Automaton
from xlsr_live.streaming.commands.grammar import parse_grammar
from xlsr_live.streaming.commands.machine import from_network
from xlsr_live.streaming.commands.nbest import alternatives
from xlsr_live.streaming.commands.network_builder import build_network
from xlsr_live.streaming.commands.viterbi import NEVER, Path, Viterbi, relative
from xlsr_live.streaming.ctc.spelling import Speller
from xlsr_live.streaming.ctc.vocabulary import Vocabulary

LETTERS = Vocabulary.from_tokens(["<pad>", "|", "A", "B"], blank=0)
UNITS = Vocabulary.from_tokens(["a", "<pad>", "b", "c"], blank=1, delimiter=None)
PIECES = Vocabulary((" a", "b", "ab", "b ", ""), blank=4)  # boundaries within tokens, and several spellings of a text
VOCABULARIES = st.sampled_from([LETTERS, UNITS, PIECES])
GRAMMARS = ["x: a", "x: aa [b] | ba", "x: a b\ny: b+", "x: (a | ab)+", "x: a{2} b*", "x: aab | aba | [b] aa b"]


class Compiled:
    def __init__(self, grammar: str, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.speller = Speller(vocabulary)
        self.network = build_network(parse_grammar(grammar), self.speller)
        self.automaton = Automaton.build(from_network(self.network), vocabulary)

    def text(self, tokens: np.ndarray | tuple[int, ...]) -> str:
        """The text of a path by the CTC rules alone."""
        collapsed = [token for token, _ in groupby(tokens) if token != self.vocabulary.blank]
        return " ".join("".join(self.vocabulary.texts[token] for token in collapsed).split())

    def fits(self, text: str) -> bool:
        return self.network.interpret(self.speller.units(text)) is not None


def posteriors(seed: int, frames: int, tokens: int, sharpness: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, sharpness, (frames, tokens))
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def run(automaton: Automaton, rows: np.ndarray, floor: float = -inf) -> Viterbi:
    viterbi = Viterbi(automaton)
    for frame, row in enumerate(relative(rows)):
        viterbi.step(row, enter=-inf if frame else 0.0, floor=np.float32(floor))
    return viterbi


def best(viterbi: Viterbi) -> Path | None:
    automaton = viterbi.automaton
    ends = [cell for cell in range(automaton.size) if automaton.ends[automaton.owner[cell]] >= 0]
    cell = max(ends, key=lambda cell: viterbi.scores[cell])
    return viterbi.trace(cell) if viterbi.scores[cell] > NEVER else None


def writable(problem: tuple[Vocabulary, str, int, int]) -> bool:
    return problem[0] is not PIECES or "aa" not in problem[1]


problems = st.tuples(VOCABULARIES, st.sampled_from(GRAMMARS), st.integers(0, 10**6), st.integers(1, 5)).filter(writable)


@given(problems)
@settings(max_examples=80, deadline=None)
def test_the_best_paths_equal_those_of_enumeration(problem):
    vocabulary, grammar, seed, frames = problem
    compiled = Compiled(grammar, vocabulary)
    rows = posteriors(seed, frames, len(vocabulary))
    costs = relative(rows)
    found: dict[str, float] = {}
    for tokens in product(range(len(vocabulary)), repeat=frames):
        text = compiled.text(tokens)
        found[text] = max(found.get(text, -inf), float(costs[np.arange(frames), tokens].sum()))
    found = {text: score for text, score in found.items() if compiled.fits(text)}
    viterbi = run(compiled.automaton, rows)
    path = best(viterbi)
    assert (path is None) == (not found)
    if path is None:
        return
    assert path.start == 0
    assert path.costs == pytest.approx(-costs[np.arange(frames), path.tokens], abs=1e-5)
    assert -path.costs.sum() == pytest.approx(max(found.values()), abs=1e-4)
    assert found[compiled.text(path.tokens)] == pytest.approx(max(found.values()), abs=1e-4)
    # All further texts by their best score, in descending order.
    ranked: dict[str, float] = {}
    for other in alternatives(viterbi, costs, vocabulary):
        assert other.costs == pytest.approx(-costs[np.arange(frames), other.tokens], abs=1e-5)
        ranked.setdefault(compiled.text(other.tokens), -float(other.costs.sum()))
    assert ranked == pytest.approx(found, abs=1e-4)
    assert list(ranked.values()) == pytest.approx(sorted(found.values(), reverse=True), abs=1e-4)


@given(problems.filter(lambda p: p[3] > 1), st.floats(-12, -1))
@settings(max_examples=60, deadline=None)
def test_a_floor_changes_nothing_above_it(problem, floor):
    vocabulary, grammar, seed, frames = problem
    rows = posteriors(seed, frames * 3, len(vocabulary))
    automaton = Compiled(grammar, vocabulary).automaton
    free, floored = run(automaton, rows).scores, run(automaton, rows, floor).scores
    assert np.array_equal(floored, np.where(free >= floor, free, NEVER))


@given(problems, st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_a_fork_is_independent(problem, cut):
    vocabulary, grammar, seed, frames = problem
    rows = posteriors(seed, frames * 3, len(vocabulary))
    automaton = Compiled(grammar, vocabulary).automaton
    whole, part = run(automaton, rows), run(automaton, rows[:cut])
    fork = part.fork()
    for row in relative(posteriors(seed + 1, 4, len(vocabulary))):
        fork.step(row, enter=-inf, floor=NEVER)
    for row in relative(rows[cut:]) if cut < len(rows) else ():
        part.step(row, enter=0.0 if part.frame == 0 else -inf, floor=NEVER)
    assert np.array_equal(part.scores, whole.scores)
    assert part.frame == whole.frame


@given(problems, st.lists(st.booleans(), min_size=15, max_size=15))
@settings(max_examples=60, deadline=None)
def test_a_path_starts_only_at_an_entry_frame(problem, entries):
    vocabulary, grammar, seed, frames = problem
    rows = posteriors(seed, frames * 3, len(vocabulary))
    compiled = Compiled(grammar, vocabulary)

    def search(start: int, entries: list[bool]) -> Path | None:
        viterbi = Viterbi(compiled.automaton, start)
        for row, enter in zip(relative(rows[start:]), entries, strict=False):
            viterbi.step(row, enter=0.0 if enter else -inf, floor=NEVER)
        return best(viterbi)

    path = search(0, entries)
    alone = [search(start, [True] + [False] * 15) for start in range(len(rows)) if entries[start]]
    found = [float(other.costs.sum()) for other in alone if other is not None]
    assert (path is None) == (not found)
    if path is not None:
        assert entries[path.start]
        assert compiled.fits(compiled.text(path.tokens))
        assert path.costs.sum() == pytest.approx(min(found), abs=1e-4)


def test_states_with_equal_futures_are_merged():
    compiled = Compiled("x: (aab | bab) [a] | abab", LETTERS)
    texts = {" ".join(text.split()) for text in compiled.automaton.completions(0, LETTERS) if text is not None}
    assert texts == {"AAB", "BAB", "AAB A", "BAB A", "ABAB"}
    assert len(compiled.automaton.first) <= 10


def test_the_longest_command_through_each_state():
    compiled = Compiled("x: a abb\ny: b{2}\nz: bab b+", LETTERS)
    automaton = compiled.automaton
    at = 0
    longest, words = automaton.longest(LETTERS), automaton.longest(LETTERS, words=True)
    assert longest[0] > 1000
    for letter, letters, word in (("A", 4, 1), (" ", 4, 3), ("A", 4, 3), ("B", 4, 3), ("B", 4, 3)):
        at = automaton.machine.arcs[at][LETTERS.texts.index(letter)]
        assert (longest[at], words[at]) == (letters, word)
