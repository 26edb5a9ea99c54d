"""Edit distance of words, for word error rates and text stability."""

from __future__ import annotations

from collections.abc import Sequence


def edits(old: Sequence[str], new: Sequence[str]) -> list[int]:
    """Fewest word edits (Levenshtein) from `old` to each prefix of `new`; the last item is for all of `new`."""
    row = list(range(len(new) + 1))
    for i, word in enumerate(old, start=1):
        above, row = row, [i]
        for j, other in enumerate(new, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (word != other)))
    return row
