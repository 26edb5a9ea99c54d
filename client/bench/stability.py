"""The stability of a session's text, counted from its events.

A change counts the fewest insertions, deletions and substitutions of words from the old text to a prefix of the new
text, so appended words cost nothing. A word that grows ("SEV", "SEVEN") counts as one replaced word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...streaming.protocol.events import Event, Final, Partial, SpeechEnded
from ..output.word_errors import edits


@dataclass(slots=True)
class Stability:
    """Counts of words over utterances; `+=` adds those of other sessions."""

    replaced: int = 0  # volatile words replaced by the next partial of the utterance or by its final
    revised: int = 0  # committed words changed by the final
    committed: int = 0  # committed words in the last partial of each utterance
    final: int = 0  # words of the finals

    def __iadd__(self, other: Stability) -> Stability:
        self.replaced += other.replaced
        self.revised += other.revised
        self.committed += other.committed
        self.final += other.final
        return self

    @property
    def churn(self) -> float:
        """Replaced volatile words for each word of the finals."""
        return self.replaced / max(1, self.final)

    @property
    def revision(self) -> float:
        """Share of the committed words changed by the finals."""
        return self.revised / max(1, self.committed)


def stability(events: Iterable[Event]) -> Stability:
    """Count one complete session. In an utterance without a final, all words count as replaced or revised."""
    counts = Stability()
    shown: Partial | None = None
    for event in events:
        match event:
            case Partial():
                if shown is not None:
                    committed, volatile = parts(shown)
                    counts.replaced += changes(volatile, texts(event)[len(committed) :])
                shown = event
            case Final():
                counts.final += len(event.words)
                _finish(counts, shown, texts(event))
                shown = None
            case SpeechEnded():
                _finish(counts, shown, [])
                shown = None
            case _:
                pass
    return counts


def _finish(counts: Stability, shown: Partial | None, final: list[str]) -> None:
    if shown is None:
        return
    committed, volatile = parts(shown)
    revised = changes(committed, final)
    counts.committed += len(committed)
    counts.revised += revised
    counts.replaced += changes(committed + volatile, final) - revised


def texts(event: Partial | Final) -> list[str]:
    return [word.word for word in event.words]


def parts(partial: Partial) -> tuple[list[str], list[str]]:
    """The committed and the volatile words."""
    words = partial.words
    return [w.word for w in words if w.committed], [w.word for w in words if not w.committed]


def changes(old: Sequence[str], new: Sequence[str]) -> int:
    """Fewest word edits from `old` to any prefix of `new`."""
    return min(edits(old, new))
