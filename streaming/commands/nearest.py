"""The phrases of a grammar that are nearest to words outside it: best-first search by edit distance over words.

Inserting or leaving out a word costs 1; another word costs what their letters differ (Ratcliff and Obershelp's measure,
of `difflib`).
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from heapq import heappop, heappush
from itertools import count
from typing import Final

from .budget import Budget, TooLarge
from .network import WordNetwork

MAX_STEPS: Final = 20_000
_Reached = tuple[float, int, int, tuple[int, ...], tuple[str, ...]]  # cost, order, words read, nodes, words written


def nearest_phrases(network: WordNetwork, words: Sequence[str], most: int = 3) -> list[tuple[str, ...]]:
    """Up to `most` phrases, the nearest first, in the vocabulary's spelling. Fewer if the search takes too long, and
    none that changes every word."""
    budget = Budget(MAX_STEPS)
    found: list[tuple[str, ...]] = []
    seen: set[tuple[int, tuple[int, ...], tuple[str, ...]]] = set()
    order = count()
    heap: list[_Reached] = []
    try:
        heap.append((0.0, next(order), 0, network.closure(network.start, budget), ()))
        while heap and len(found) < most:
            cost, _, read, nodes, phrase = heappop(heap)
            if cost >= len(words):
                break
            if (read, nodes, phrase) in seen:
                continue
            seen.add((read, nodes, phrase))
            if read == len(words) and network.ends(nodes) and phrase and phrase not in found:
                found.append(phrase)
            if read < len(words):
                heappush(heap, (cost + 1, next(order), read + 1, nodes, phrase))
            for word, targets in network.steps(nodes).items():
                budget.spend()
                onward = tuple(dict.fromkeys(node for target in targets for node in network.closure(target, budget)))
                longer = (*phrase, word)
                heappush(heap, (cost + 1, next(order), read, onward, longer))
                if read < len(words):
                    change = 1 - SequenceMatcher(None, word, words[read]).ratio()
                    heappush(heap, (cost + change, next(order), read + 1, onward, longer))
    except TooLarge:
        pass
    return found
