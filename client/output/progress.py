"""A progress bar on stderr for work that takes a while."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from ...streaming.protocol.events import Event, Partial, SessionEnded, SpeechEnded
from ..console import steerable
from .formats import Output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, Task


@contextmanager
def progress(total: float, *, audio: bool = False) -> Generator[tuple[Callable[..., None], TextIO]]:
    """A bar on stderr if that is a terminal, for at least two items, or for seconds of `audio`.

    Yields a function that advances the bar (by default by 1), and the stream to print text to.
    """
    if total < (0.1 if audio else 2) or not sys.stderr.isatty() or not steerable():
        yield _nothing, sys.stdout
        return
    from rich.console import Console

    console = Console(stderr=True, no_color=True)
    with _bar(console, audio=audio) as shown:
        task = shown.add_task("", total=total)
        out = AboveBar(console) if sys.stdout.isatty() else sys.stdout

        def advance(amount: float = 1.0) -> None:
            shown.advance(task, amount)

        yield advance, out


class AudioProgress(Output):
    """Advances a bar along the audio of recordings."""

    def __init__(self, advance: Callable[..., None]) -> None:
        super().__init__(sys.stderr)
        self._advance = advance
        self._at = 0.0

    def begin(self, source: str) -> None:
        self._at = 0.0

    def show(self, event: Event) -> None:
        match event:
            case Partial(audio_s=at) | SpeechEnded(end=at) | SessionEnded(audio_s=at):
                self._advance(max(0.0, at - self._at))
                self._at = max(at, self._at)
            case _:
                pass


class AboveBar(io.StringIO):
    """A stream that writes text above a progress bar."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def write(self, text: str, /) -> int:
        self._console.print(text, end="", soft_wrap=True, markup=False, highlight=False)
        return len(text)


def _nothing(amount: float = 1.0) -> None: ...


def _bar(console: Console, *, audio: bool) -> Progress:
    """A bar without colours. It shows the speed (times real time) for audio, else the count."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TaskProgressColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f}x" if task.speed else "")

    columns = [TaskProgressColumn(style="none"), Speed()] if audio else [MofNCompleteColumn()]
    shape = BarColumn(complete_style="bold", finished_style="bold", style="dim")
    return Progress(
        shape, *columns, TimeRemainingColumn(compact=True), console=console, transient=True, redirect_stdout=False
    )
