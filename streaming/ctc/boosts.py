"""Boosts of phrases inside a search: an automaton over the tokens that hypotheses write.

Each letter that continues a phrase earns the phrase's boost at once, so the beam keeps unfinished phrases. A path that
leaves an unfinished phrase loses what the phrase earned. Phrases begin and end at word boundaries. The automaton is
that of Aho and Corasick (1975); a path falls back only to phrases that begin at a later word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .lexicon import Spelling

_START, _INSIDE = 0, 1  # states: at the start of a word; inside a word of no phrase


@dataclass(frozen=True, slots=True, eq=False)
class Boosts:
    """The automaton of the hotwords: what each token earns in each state."""

    next: NDArray[np.intp]  # (states, vocabulary)
    gain: NDArray[np.float64]  # (states, vocabulary), nats that the token earns or loses
    held: NDArray[np.float64]  # (states,) nats of an unfinished phrase, lost if the path leaves it

    @classmethod
    def build(cls, phrases: Sequence[tuple[Sequence[Spelling], float]], vocabulary: int, boundary: int) -> Boosts:
        """Phrases as spelled words with nats for each letter."""
        children: list[dict[int, int]] = [{}, {}]
        letters, fallback = [0, 0], [_INSIDE, _INSIDE]
        best, final = [0.0, 0.0], [0.0, 0.0]  # highest boost of a phrase through the state; worth of the one that ends
        paths: list[tuple[int, ...]] = [(), ()]
        for words, boost in phrases:
            state = _START
            tokens = [token for word in words for token in (*word, boundary)][:-1]
            for token in tokens:
                if token not in children[state]:
                    children[state][token] = len(children)
                    children.append({})
                    letters.append(letters[state] + (token != boundary))
                    paths.append((*paths[state], token))
                    best.append(0.0)
                    final.append(0.0)
                state = children[state][token]
                best[state] = max(best[state], boost)
            final[state] = max(final[state], boost * letters[state])
        states = len(children)
        by_path = {path: state for state, path in enumerate(paths) if state != _INSIDE}
        fallback = [_fallback(path, by_path, boundary) for path in paths]
        fallback[_INSIDE] = _INSIDE
        given = [0.0] * states  # worth of the longest finished phrase on the way
        for state in sorted(range(2, states), key=lambda state: len(paths[state])):
            for token, child in children[state].items():
                given[child] = max(given[state], final[state]) if token == boundary else given[state]
        held = np.maximum(0, np.multiply(best, letters) - given)
        follow = np.full((states, vocabulary), _INSIDE, np.intp)
        gain = np.zeros((states, vocabulary))
        follow[:, boundary] = _START
        for state in sorted(range(states), key=lambda state: len(paths[state])):
            if state != _INSIDE and fallback[state] != state:
                follow[state], gain[state] = follow[fallback[state]], gain[fallback[state]] + held[fallback[state]]
            for token, child in children[state].items():
                follow[state, token], gain[state, token] = child, held[child]
            gain[state] -= held[state]
            if final[state]:
                after = children[state].get(boundary)
                kept = max(0.0, final[state] - given[state])
                gain[state, boundary] = kept + (held[after] if after is not None else 0.0) - held[state]
        return cls(follow, gain, held)

    def __bool__(self) -> bool:
        return self.states > 1

    @property
    def states(self) -> int:
        return len(self.held)

    def start(self, at_word: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Initial states of paths, (paths,), at the start of a word or inside one."""
        return np.where(at_word, _START, _INSIDE) if self else np.zeros(len(at_word), np.intp)

    def worth(self, tokens: Sequence[int]) -> float:
        """Nats that the written tokens of a finished path earn."""
        state, total = _START, 0.0
        for token in tokens if self else ():
            total += float(self.gain[state, token])
            state = int(self.next[state, token])
        return total - float(self.held[state])


def _fallback(path: tuple[int, ...], by_path: dict[tuple[int, ...], int], boundary: int) -> int:
    """The state of the longest suffix of a path that starts at a later word and begins a phrase."""
    if not path:
        return _START
    for at, token in enumerate(path):
        if token == boundary and (state := by_path.get(path[at + 1 :])) is not None:
            return state
    return _INSIDE


NO_BOOSTS: Final = Boosts(np.zeros((1, 0), np.intp), np.zeros((1, 0)), np.zeros(1))
