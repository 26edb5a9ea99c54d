"""A bar on stderr for work that takes a while."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class Speed(ProgressColumn):
    """Of audio: how many times faster than it was spoken."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}x" if task.speed else "")


def bar(console: Console, *, audio: bool) -> Progress:
    """How far, how fast where it is `audio`, and how long to go; on a console without colours."""
    far = [TaskProgressColumn(style="none"), Speed()] if audio else [MofNCompleteColumn()]
    shape = BarColumn(complete_style="bold", finished_style="bold", style="dim")
    return Progress(
        shape, *far, TimeRemainingColumn(compact=True), console=console, transient=True, redirect_stdout=False
    )
