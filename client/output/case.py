"""`--case`: text for people in sentence case, or as the model writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ...streaming.captions.case import SentenceCase
from ...streaming.captions.punctuation import as_displayed
from ...streaming.protocol.events import Event, Final
from .formats import Output, Together

Case = Literal["sentence", "model"]


class InSentences(Together):
    """Passes events on in sentence case, and finals with their `display_text` where they have one."""

    def __init__(self, outputs: Sequence[Output]) -> None:
        super().__init__(outputs)
        self._case = SentenceCase()

    def show(self, event: Event) -> None:
        if isinstance(event, Final) and isinstance(event.display_text, str):
            super().show(as_displayed(event))
        else:
            super().show(self._case.receive(event))


def in_case(output: Output, case: Case) -> Output:
    """The output, with its text in this case."""
    return InSentences([output]) if case == "sentence" else output
