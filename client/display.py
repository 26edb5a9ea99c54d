"""The live display: finals one below the other, and under them the utterance that is being spoken.

Committed text stands plain, the volatile tail behind it dimmed. The region that changes is redrawn only when its
content has changed (the meter at most `REFRESH` times a second), in one write, and stays a few lines high: nothing
flickers and nothing scrolls but finals.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Final as Constant
from typing import Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..streaming.events import Event, Final, Partial, SessionEnded, SpeechEnded, SpeechStarted, Warning
from .formats import Output

REFRESH: Constant = 10.0  # a second
OPEN_LINES: Constant = 3  # of the open utterance: its end is what is new
TIME_CELLS: Constant = 11  # of the column with the time
QUIET_DBFS: Constant = -60.0  # the left end of the meter
METER_CELLS: Constant = 20


class LiveDisplay(Output):
    """An `Output` for a terminal. A context manager: the terminal is restored on the way out."""

    def __init__(self, out: TextIO, *, several: bool = False, meter: bool = False) -> None:
        super().__init__(out, several=several)
        self._console = Console(file=out, highlight=False, markup=False, emoji=False)
        self._meter = meter
        self._dbfs = QUIET_DBFS
        self._open: Partial | None = None
        self._speaking = False
        self._drawn = 0.0
        # Not a fixed renderable but this object: a final is then printed and the region below it redrawn in one write.
        self._live = Live(
            self,
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=sys.stderr.isatty(),
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._open, self._meter = None, False
        self._live.stop()

    def begin(self, source: str) -> None:
        super().begin(source)
        if self._several:
            self._console.print(Text(source, style="bold"))

    def show(self, event: Event) -> None:
        match event:
            case SpeechStarted():
                self._open, self._speaking = None, True
            case Partial():
                self._open = event
            case Final():
                self._open, self._speaking = None, False
                self._console.print(_row(_begin(event), Text(event.text)))
                return
            case SpeechEnded() | SessionEnded():
                self._open, self._speaking = None, False
            case Warning():
                self._console.print(Text(f"{event.code}: {event.message}", style="yellow"))
                return
            case _:
                return
        self._draw()

    def level(self, dbfs: float) -> None:
        self._dbfs = max(dbfs, self._dbfs - 3.0)  # falls slowly, like the needle of a meter
        if time.monotonic() - self._drawn >= 1 / REFRESH:
            self._draw()

    def note(self, text: str) -> None:
        """A line of the program's own."""
        self._console.print(Text(text, style="dim"))

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        self._live.refresh()

    def __rich__(self) -> RenderableType:
        """The region that changes."""
        rows: list[RenderableType] = []
        if self._open and (self._open.committed or self._open.volatile):
            rows.append(_row(_begin(self._open), self._tail(self._open)))
        elif self._speaking:
            rows.append(_row(None, Text("...", style="dim")))
        if self._meter:
            rows.append(_bar(self._dbfs, min(METER_CELLS, self._console.width - TIME_CELLS)))
        return Group(*rows)

    def _tail(self, partial: Partial) -> Text:
        """The last lines of an open utterance. The whole may be longer than the window is high."""
        text = Text(partial.committed)
        if partial.volatile:
            text.append(" " if partial.committed else "").append(partial.volatile, style="dim")
        lines = text.wrap(self._console, max(1, self._console.width - TIME_CELLS))
        return Text("\n").join(lines[-OPEN_LINES:])


def _begin(event: Partial | Final) -> float | None:
    return event.words[0].start if event.words else None


def _row(begun: float | None, text: Text) -> Table:
    row = Table.grid()
    row.add_column(width=TIME_CELLS, no_wrap=True, style="cyan")
    row.add_column(overflow="fold")
    row.add_row("" if begun is None else _short(begun), text)
    return row


def _bar(dbfs: float, cells: int) -> Text:
    share = min(1.0, max(0.0, 1 - dbfs / QUIET_DBFS))
    lit = round(share * cells)
    style = "red" if dbfs > -3 else "green" if dbfs > -40 else "dim"
    return Text("".ljust(TIME_CELLS)).append("━" * lit, style=style).append("─" * (cells - lit), style="dim")


def _short(seconds: float) -> str:
    """m:ss.t, with hours where there are any."""
    minutes, secs = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02}" if hours else f"{minutes}") + f":{secs // 10:02}.{secs % 10}"
