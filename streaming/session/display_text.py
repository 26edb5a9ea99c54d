"""The `display_text` of a final. A model for punctuation takes long, so it runs as a job, as long decodings do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..captions.punctuation import Punctuate, punctuate_pauses
from ..requests import DecodeJob, Job


class DisplayText:
    """Makes the texts of one session, one after the other. `next_id` numbers the jobs."""

    def __init__(self, punctuate: Punctuate, next_id: Callable[[], int]) -> None:
        self._punctuate = punctuate
        self._next_id = next_id
        self._job: int | None = None  # that has no answer yet
        self._plain = ("", False)  # what it punctuates
        self._shown: str | None = None

    def plan(self, text: str, *, ended: bool, utterance: int, now: float) -> list[Job]:
        """Return the job for the text of a final, once; the rule needs none. `ended` is as for `Punctuate`."""
        if self._job is not None or self._shown is not None:
            return []
        if self._punctuate is punctuate_pauses:
            self._shown = punctuate_pauses(text, ended)
            return []
        self._job, self._plain = self._next_id(), (text, ended)
        return [DecodeJob(self._job, "final", utterance, now, partial(self._punctuate, text, ended))]

    def wants(self, job: int) -> bool:
        """Whether the answer to a job still matters."""
        return job == self._job

    def receive(self, shown: object) -> None:
        """Take the answer to the job."""
        self._job, self._shown = None, str(shown)

    def fail(self) -> None:
        """The job has no answer: the rule gives the text."""
        self.receive(punctuate_pauses(*self._plain))

    def take(self) -> str | None:
        """The text, once; None until it is there."""
        shown, self._shown = self._shown, None
        return shown
