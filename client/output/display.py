"""The live display: the finals, and below them the open utterance.

Committed text is plain, volatile text is dim (underlined on terminals without dim). Colours would exclude colour-blind
users. A full line keeps its place until the final replaces the open utterance. The display rewrites only changed lines,
in one write, and erases what the terminal echoes there (`^C`). After a change of the window's size it redraws
everything, because terminals reflow old lines differently.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import deque
from contextlib import redirect_stderr, suppress
from io import StringIO
from types import FrameType, TracebackType
from typing import Final as Constant
from typing import Self, TextIO

from ...streaming.captions.subtitles import short_clock
from ...streaming.protocol.events import (
    Event,
    Final,
    Partial,
    SessionEnded,
    SpeechEnded,
    SpeechStarted,
    Translation,
    Warning,
)
from ..console import can_print, without_controls
from .formats import Output
from .lines import wrap
from .terminal import kept_output

METER_HZ: Constant = 10.0  # redraws of the meter per second
TIME_CELLS: Constant = 11  # width of the column with the time
HISTORY: Constant = 500  # finals kept for redrawing
QUIET_DBFS: Constant = -60.0  # the left end of the meter
LOUD_DBFS: Constant = -3.0
METER_CELLS: Constant = 20
BAR, ASCII_BAR = "━─", "=-"
PLAIN, BOLD, DIM, UNDERLINED = "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[4m"


class LiveDisplay(Output):
    """An `Output` for a terminal, which it restores when its context ends.

    Events must come from one thread; notes may come from any thread.
    """

    def __init__(self, out: TextIO, *, several: bool = False, meter: bool = False) -> None:
        super().__init__(out, several=several)
        self._dim = UNDERLINED if os.environ.get("TERM") == "linux" else DIM
        self._lock = threading.Lock()
        self._meter = meter
        self._hint = ""
        self._dbfs = QUIET_DBFS
        self._done: deque[tuple[str, str, str]] = deque(maxlen=HISTORY)  # style, time, text
        self._open: Partial | None = None
        self._speaking = False
        self._size = self._window()
        self._shown: list[str] = []  # lines of the changing region; the cursor is below them
        self._drawn = 0.0
        self._old_handler: object = None  # of SIGWINCH
        self._stderr = redirect_stderr(AboveRegion(self)) if sys.stderr.isatty() else None
        self._mode = kept_output(out)

    def __enter__(self) -> Self:
        self._mode.__enter__()
        self._write("\x1b[?25l")
        if self._stderr:
            self._stderr.__enter__()
        with suppress(ValueError, AttributeError):  # not the main thread; Windows
            self._old_handler = signal.signal(signal.SIGWINCH, self._resized)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if callable(self._old_handler) or isinstance(self._old_handler, signal.Handlers):
            signal.signal(signal.SIGWINCH, self._old_handler)
        if self._stderr:
            self._stderr.__exit__(kind, error, _)
        with self._lock:
            self._open, self._speaking, self._meter, self._hint = None, False, False, ""
            self._draw()
            self._write("\r\x1b[J\x1b[?25h")
        self._mode.__exit__(None, None, None)

    def begin(self, source: str) -> None:
        super().begin(source)
        if self._several:
            self._say(BOLD, "", source)

    def show(self, event: Event) -> None:
        match event:
            case SpeechStarted():
                self._open, self._speaking = None, True
            case Partial():
                self._open = event
            case Final():
                self._open, self._speaking = None, False
                self._say("", _begin(event), event.text)
                return
            case SpeechEnded() | SessionEnded():
                self._open, self._speaking = None, False
            case Translation():
                self._say("", event.language, event.text)
                return
            case Warning():
                self._say(BOLD, "", f"{event.code}: {event.message}")
                return
            case _:
                return
        with self._lock:
            self._draw()

    def level(self, dbfs: float) -> None:
        self._dbfs = max(dbfs, self._dbfs - 3.0)  # falls slowly, as meters do
        if time.monotonic() - self._drawn >= 1 / METER_HZ:
            with self._lock:
                self._draw()

    def hint(self, text: str) -> None:
        with self._lock:
            self._hint = text
            self._draw()

    def note(self, text: str) -> None:
        """Show a message of the program."""
        self._say(self._dim, "", text)

    def _say(self, style: str, begun: str, text: str) -> None:
        """Add lines above the changing region."""
        with self._lock:
            self._done.append((style, begun, text))
            self._draw(_rows(style, begun, text, self._size[0]))

    def _resized(self, signum: int, frame: FrameType | None) -> None:
        if self._lock.acquire(blocking=False):  # otherwise another thread is drawing and uses the new size
            try:
                self._draw()
            finally:
                self._lock.release()

    def _window(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            columns, lines = os.get_terminal_size(self._out.fileno())
        except (OSError, ValueError):
            columns, lines = 0, 0
        return max(TIME_CELLS + 8, columns or 80), max(4, lines or 24)

    def _draw(self, above: list[str] | None = None) -> None:
        """Write new lines `above` the changing region, and its changed lines."""
        self._drawn = time.monotonic()
        resized = (size := self._window()) != self._size
        self._size = size
        region = self._region()
        if resized:
            rows = [row for done in self._done for row in _rows(*done, self._size[0])]
            lines = [*rows, *region][-self._size[1] + 1 :]
            self._write("\x1b[H\x1b[J" + "".join(f"{line}\r\n" for line in lines))
        else:
            lines = [*(above or ()), *region]
            same = 0
            for old, new in zip(self._shown, lines, strict=False):
                if old != new:
                    break
                same += 1
            up = len(self._shown) - same
            text = (f"\x1b[{up}A" if up else "") + "".join(f"{line}\x1b[K\r\n" for line in lines[same:])
            if text:
                self._write(f"\r{text}\x1b[J")
        self._shown = region

    def _region(self) -> list[str]:
        """The changing region, smaller than the window: the end of the open utterance, and the meter."""
        width, height = self._size
        rows: list[str] = []
        if self._open and (self._open.committed or self._open.volatile):
            committed, volatile = self._open.committed, self._open.volatile
            text = f"{committed} {volatile}" if committed and volatile else committed or volatile
            letters = len("".join(committed.split()))
            rows = _rows("", _begin(self._open), text, width, plain=letters, faint=self._dim)
        elif self._speaking:
            rows = [" " * TIME_CELLS + self._dim + "..." + PLAIN]
        if self._meter:
            rows.append(_bar(self._dbfs, min(METER_CELLS, width - TIME_CELLS - 1), self._out))
        if self._hint:
            rows += _rows("", "", self._hint, width)
        return rows[-height + 2 :]


class AboveRegion(StringIO):
    """A stderr that writes lines above the changing region."""

    def __init__(self, display: LiveDisplay) -> None:
        super().__init__()
        self._display = display
        self._rest = ""

    def write(self, text: str, /) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._display.note(line)
        return len(text)


def _begin(event: Partial | Final) -> str:
    return short_clock(event.words[0].start) if event.words else ""


def _rows(style: str, begun: str, text: str, width: int, *, plain: int | None = None, faint: str = "") -> list[str]:
    """Lines of the window's `width`: the time (or a label), then the text.

    Letters after the first `plain` ones are in the style `faint`.
    """
    rows: list[str] = []
    label = without_controls(begun)[: TIME_CELLS - 1]
    left = len(text) if plain is None else plain
    # The last column stays empty: some terminals wrap when it is full.
    for line in wrap(without_controls(text), width - TIME_CELLS - 1) or [""]:
        at = 0
        while at < len(line) and (left or line[at] == " "):
            left -= line[at] != " "
            at += 1
        dim = f"{faint}{line[at:]}{PLAIN}" if at < len(line) else ""
        rows.append(f"{style}{label.ljust(TIME_CELLS)}{line[:at]}{dim}{PLAIN if style else ''}")
        label = ""
    return rows


def _bar(dbfs: float, cells: int, out: TextIO) -> str:
    lit = round(min(1.0, max(0.0, 1 - dbfs / QUIET_DBFS)) * cells)
    loud = " too loud" if dbfs > LOUD_DBFS else ""
    on, off = BAR if can_print(BAR, out) else ASCII_BAR
    return " " * TIME_CELLS + on * lit + off * (cells - lit) + loud
