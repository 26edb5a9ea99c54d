"""Grammars compiled for a vocabulary."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby

import numpy as np

from ..ctc.spelling import Speller
from ..ctc.vocabulary import Vocabulary
from ..errors import GrammarError
from .automaton import Automaton
from .budget import Budget, TooLarge
from .expressions import CommandGrammar
from .grammar import parse_grammar
from .machine import from_network
from .meaning import Meaning
from .nearest import nearest_phrases
from .network_builder import build_network
from .viterbi import Path


class CompiledGrammar:
    """A grammar compiled for a vocabulary, immutable and shared by all sessions. Raises `GrammarError`."""

    def __init__(self, grammar: CommandGrammar | str, vocabulary: Vocabulary) -> None:
        self.grammar = parse_grammar(grammar) if isinstance(grammar, str) else grammar
        self.vocabulary = vocabulary
        self._speller = Speller(vocabulary)
        self.network = build_network(self.grammar, self._speller)
        respelled = {word: self._speller.respelled(word) for word in self.grammar.words()}
        self.notes = [f"the model writes {word!r} as {written!r}" for word, written in respelled.items() if written]
        try:
            self.automaton = Automaton.build(from_network(self.network), vocabulary)
        except TooLarge as error:
            raise GrammarError(f"the grammar is too large: {error}", 1, 1) from error
        automaton = self.automaton
        self.finished = np.flatnonzero(automaton.ends[automaton.owner] >= 0)  # cells in which a command may end
        # Letters of the longest command through each cell, and of the longest word in or after each state.
        self.longest = automaton.longest(vocabulary)[automaton.owner]
        self.longest_word = automaton.longest(vocabulary, words=True)
        self.silent = np.array(vocabulary.silent)  # tokens that write nothing

    def interpret(self, texts: Iterable[str], budget: Budget | None = None) -> Meaning | None:
        """The meaning of decoded words; see `WordNetwork.interpret`."""
        return self.network.interpret([unit for text in texts for unit in self._speller.units(text)], budget)

    def understand(self, typed: str) -> Meaning | None:
        """The meaning of typed words."""
        units = [self._speller.spell(unit) for unit in self._speller.units(typed)]
        return self.network.interpret([unit or "" for unit in units])

    def nearest(self, typed: str) -> list[str]:
        """The commands that are nearest to typed words, the nearest first, in the model's spelling."""
        units = [self._speller.spell(unit) or unit for unit in self._speller.units(typed)]
        return [self.vocabulary.join(words) for words in nearest_phrases(self.network, units)]

    def text(self, path: Path) -> str:
        """The text that a path writes."""
        tokens: list[int] = path.tokens.tolist()
        return "".join(self.vocabulary.texts[token] for token, _ in groupby(tokens))


@lru_cache(maxsize=16)
def compiled(grammar: str, vocabulary: Vocabulary) -> CompiledGrammar:
    """Compile a grammar, once for all sessions. Takes up to a second. Raises `GrammarError`."""
    return CompiledGrammar(grammar, vocabulary)
