"""CompiledGrammar accepts and rejects: speech outside the grammar, any split, early decisions that stay valid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.commands.compiled import CompiledGrammar
from xlsr_live.streaming.commands.decision import Decision, Strictness
from xlsr_live.streaming.commands.matcher import CommandMatcher
from xlsr_live.streaming.ctc.vocabulary import Vocabulary
from xlsr_live.streaming.errors import ConfigError

VOCABULARY = Vocabulary.from_tokens(["<pad>", "|", *"ABCDEFGHIKLMNOPRSTUVWY"], blank=0)
HOUSE = """
light: [turn] (state: on | off) the (room: kitchen | bath) light [please]
stop: stop
start: start
code: code (code: (one="1" | two="2" | nine="9"){3})
"""
SAID = ["TURN ON THE BATH LIGHT", "OFF THE KITCHEN LIGHT PLEASE", "STOP", "START", "CODE ONE TWO NINE"]
OTHERS = [
    "",
    "TURN",
    "STOP THE LIGHT",
    "ONE TWO NINE",
    "WE START AT NINE",
    "TURN OFF MY HEARING AID",
    "STOPS",
    "PLEASE",
]


def rows_of(text: str, seed: int = 0, *, sure: float = 7.0, rest: int = 15) -> np.ndarray:
    """Log-probabilities that spell `text` with a margin of about `sure` nats, then `rest` blanks."""
    tokens = [t for c in text for t in (VOCABULARY.texts.index(c), 0)] + [0] * rest
    logits = np.random.default_rng(seed).normal(0, 1, (len(tokens), len(VOCABULARY)))
    logits[np.arange(len(tokens)), tokens] += sure
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


@pytest.fixture(scope="module")
def house() -> CompiledGrammar:
    return CompiledGrammar(HOUSE, VOCABULARY)


def decide(
    commands: CompiledGrammar, rows: np.ndarray, strictness: Strictness | None = None, others: int = 0
) -> Decision:
    listener = CommandMatcher(commands, strictness)
    listener.push(rows)
    return listener.finish(others)


NEVER_EARLY = Strictness(settle=1_000)


@pytest.mark.parametrize("text", SAID)
def test_a_sentence_of_the_grammar_is_accepted_with_its_words_and_times(house: CompiledGrammar, text: str):
    decision = decide(house, rows_of(text), NEVER_EARLY)
    assert decision.accepted
    assert decision.best.text == text
    assert decision.best.meaning == house.interpret(text.split())
    assert decision.score > 0.9
    assert [word.start for word in decision.best.words] == [
        2 * at for at, char in enumerate(text) if at == 0 or text[at - 1] == " "
    ]


@pytest.mark.parametrize("text", OTHERS)
@pytest.mark.parametrize("strictness", [None, NEVER_EARLY])
def test_other_speech_is_rejected_with_a_low_score(house: CompiledGrammar, text: str, strictness: Strictness | None):
    decision = decide(house, rows_of(text), strictness)
    assert not decision.accepted
    assert decision.score < 0.5 or decision.best.word_score < 0.05


def test_uniform_rows_are_no_command(house: CompiledGrammar):
    """With equally likely tokens every path scores like the free path, so a relative score alone would accept it."""
    flat = np.full((60, len(VOCABULARY)), -np.log(len(VOCABULARY)), np.float32)
    assert not decide(house, flat).accepted
    assert decide(house, np.empty((0, len(VOCABULARY)), np.float32)) == Decision(False, None, 0)


def test_a_misheard_letter_costs_score_and_not_the_command(house: CompiledGrammar):
    clean, blurred = decide(house, rows_of("STOP")), decide(house, rows_of("TURN ON THE BAPH LIGHT"))
    assert blurred.accepted
    assert blurred.best.meaning.slots[1].value == "bath"
    assert blurred.score < clean.score


def test_alternatives_follow_the_best_command(house: CompiledGrammar):
    decision = decide(house, rows_of("CODE ONE TWO ONE", sure=4.0), NEVER_EARLY, others=3)
    assert decision.best.meaning.slots[0].value == "121"
    assert len({other.meaning.slots for other in decision.others} | {decision.best.meaning.slots}) == 4


speech = st.sampled_from([*SAID, *OTHERS, "TURN ON THE BATH", "CODE NINE NINE", "STAR", "ON THE KITCHEN LIGHT"])
problems = st.tuples(speech, st.integers(0, 10**6), st.sampled_from([2.0, 4.0, 7.0]))


@given(problems, st.lists(st.integers(0, 9), max_size=20))
@settings(max_examples=60, deadline=None)
def test_any_split_of_the_rows_gives_the_decision_of_the_whole(house, problem, cuts):
    text, seed, sure = problem
    rows = rows_of(text, seed, sure=sure)
    listener, at = CommandMatcher(house), 0
    for cut in [*cuts, len(rows)]:
        listener.push(rows[at : at + cut])
        at += cut
    assert listener.finish() == decide(house, rows)


endings = st.one_of(st.just(""), speech, st.text(st.sampled_from("ABENOPSTY "), max_size=12))


@given(problems, st.integers(0, 20), endings, st.integers(0, 10**6), st.floats(0.2, 0.9), st.floats(0, 0.5))
@settings(max_examples=150, deadline=None)
def test_an_early_decision_is_never_contradicted(house, problem, rest, more, other, score, word_score):
    """Whatever follows, the decision at the end is the same command or none."""
    text, seed, sure = problem
    rows = rows_of(text, seed, sure=sure, rest=rest)
    follows = rows_of(more, other, sure=sure, rest=3)
    early = CommandMatcher(house, Strictness(score=score, word_score=word_score, settle=2))
    patient = CommandMatcher(house, Strictness(score=score, word_score=word_score, settle=1_000))
    for part in (rows, follows):
        early.push(part)
        patient.push(part)
    if early.decision is not None:
        final = patient.finish()
        assert early.decision.early
        assert early.decision.accepted
        assert early.finish() is early.decision
        if final.accepted:
            assert final.best.meaning.command == early.decision.best.meaning.command
            assert [s[:2] for s in final.best.meaning.slots] == [s[:2] for s in early.decision.best.meaning.slots]


def test_the_early_decision_comes_as_soon_as_no_other_command_is_possible(house: CompiledGrammar):
    def when(text: str, commands: CompiledGrammar = house) -> int | None:
        decision = decide(commands, rows_of(text, rest=40), Strictness(settle=3))
        return decision.frame if decision.early else None

    assert when("STOP") == 2 * 4 + 2  # the last letter, its blank, and two more
    assert when("TURN ON THE BATH LIGHT") == 2 * 22 + 2  # "please" would change nothing
    assert when("CODE ONE TWO NINE") == 2 * 17 + 2
    longer = CompiledGrammar("stop: stop\nend: stop the bath", VOCABULARY)
    assert when("STOP", longer) is None
    assert when("STOP THE BATH", longer) == 2 * 13 + 2


def test_strictness_is_checked():
    for wrong in ({"score": 0.0}, {"score": 1.1}, {"word_score": -0.1}, {"settle": -1}):
        with pytest.raises(ConfigError):
            Strictness(**wrong)
