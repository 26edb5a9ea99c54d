"""Text sent in pieces, for protocols that cannot revise what they sent."""

from __future__ import annotations

from collections.abc import Callable


class Deltas:
    """Committed text as it grows, over one utterance or several. The deltas joined are the text, unless a final
    revises committed text: then no more deltas come, and only `text` is complete.

    `join` concatenates texts with the model's word separator.
    """

    def __init__(self, join: Callable[..., str]) -> None:
        self.text = ""  # of the finals
        self._join = join
        self._sent = ""

    def partial(self, committed: str) -> str:
        """The delta for the committed text of the open utterance."""
        return self._add(self._join(self.text, committed))

    def final(self, text: str) -> str:
        """The delta for the final of an utterance."""
        self.text = self._join(self.text, text)
        return self._add(self.text)

    def _add(self, text: str) -> str:
        if not text.startswith(self._sent):
            return ""
        delta, self._sent = text[len(self._sent) :], text
        return delta
