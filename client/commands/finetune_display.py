"""The display of `xlsr-live finetune` while it trains: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final

import click

from ...training.finetune import Evaluation, RunPosition
from ...training.score import SATURATED
from ...training.survey import counted
from ..console import steerable

if TYPE_CHECKING:
    from rich.progress import Progress

ESTIMATE_AFTER: Final = 10  # updates


class RunDisplay:
    """Takes updates (`watch`) and evaluations (`show`) between entry and exit. Not `wanted`, it shows nothing."""

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self._bar = _make_bar() if wanted and sys.stderr.isatty() and steerable() else None
        self._task = self._bar.add_task("", total=1.0) if self._bar else None
        self._updates: list[tuple[float, float]] = []  # clock and progress of the first ones
        self._rates = ""

    def __enter__(self) -> RunDisplay:
        self._begun = time.monotonic()
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        if error is None:
            say(f"Trained for {(time.monotonic() - self._begun) / 60:.1f} minutes.", wanted=self._wanted)

    def watch(self, position: RunPosition, done: float) -> None:
        if self._bar and self._task is not None:
            text = f"loss {position.losses[-1]:.2f}  {self._rates}"
            self._bar.update(self._task, completed=done, description=text)
        if len(self._updates) >= ESTIMATE_AFTER:
            return
        self._updates.append((time.monotonic(), done))
        if len(self._updates) == ESTIMATE_AFTER and done < 1:
            (begun, first), (now, last) = self._updates[0], self._updates[-1]
            minutes = (1 - done) * (now - begun) / max(last - first, 1e-9) / 60
            self._say(f"Training left: about {counted(max(1, round(minutes)), 'minute')}.")

    def show(self, found: Evaluation) -> None:
        self._rates = f"WER offline {100 * found.offline:.1f} %, live {100 * found.live:.1f} %"
        if min(found.offline, found.live) >= SATURATED:
            characters = found.offline_characters, found.live_characters
            self._rates += ", CER {:.1f} and {:.1f} %".format(*(100 * each for each in characters))
        loss = "" if found.loss is None else f", loss {found.loss:.3f}"
        self._say(f"step {found.step}, {found.minutes:.1f} min{loss}, {self._rates}")

    def _say(self, sentence: str) -> None:
        """Above the bar, if there is one."""
        if self._bar:
            self._bar.console.print(sentence, markup=False, highlight=False, soft_wrap=True)
        else:
            say(sentence, wanted=self._wanted)


def say(sentence: str, *, wanted: bool = True) -> None:
    """A line on stderr."""
    if wanted:
        click.echo(sentence, err=True)


def _make_bar() -> Progress:
    """Shows the share that is done, loss and rates, and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn(compact=True)
    return Progress(*columns, console=Console(stderr=True, no_color=True), transient=True)
