"""Text told piece by piece, for protocols in which nothing that was said can be taken back."""

from __future__ import annotations

from collections.abc import Callable


class Deltas:
    """Committed text as it grows, over one utterance or several. Joined, the deltas are the text, unless a final
    revises what was committed: then nothing more is told, and the whole text must be.

    `join` puts texts one after the other.
    """

    def __init__(self, join: Callable[..., str]) -> None:
        self.text = ""  # of the finals
        self._join = join
        self._told = ""

    def partial(self, committed: str) -> str:
        """What to add now that so much of the open utterance is committed."""
        return self._add(self._join(self.text, committed))

    def final(self, text: str) -> str:
        """What to add now that an utterance is final."""
        self.text = self._join(self.text, text)
        return self._add(self.text)

    def _add(self, text: str) -> str:
        if not text.startswith(self._told):
            return ""
        delta, self._told = text[len(self._told) :], text
        return delta
