"""The live display, on a terminal that is a string."""

from __future__ import annotations

import io
import re

import pytest
from xlsr_live.client.display import OPEN_LINES, TIME_CELLS, LiveDisplay
from xlsr_live.streaming.events import Final, Partial, SpeechEnded, SpeechStarted, Warning, Word

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PARTS = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def since(self, place: int) -> str:
        return self.getvalue()[place:]

    def screen(self) -> list[str]:
        """What stands on it: carriage return, new line, cursor up and erase line are understood."""
        lines, row, column = [""], 0, 0
        for count, escape, back, down, text in PARTS.findall(self.getvalue()):
            if back:
                column = 0
            elif down:
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif escape == "A":
                row -= int(count or 1)
            elif escape == "K":
                lines[row] = ""
            elif text:
                lines[row] = lines[row].ljust(column)[:column] + text + lines[row][column + len(text) :]
                column += len(text)
        return [line.rstrip() for line in lines if line.strip()]


@pytest.fixture(autouse=True)
def eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("COLUMNS", "80"), ("LINES", "24"), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)


def partial(committed: str, volatile: str) -> Partial:
    words = tuple(Word(word, 1.25, 1.5, 0.9) for word in f"{committed} {volatile}".split())
    return Partial(utterance=0, committed=committed, volatile=volatile, words=words, audio_s=2.0, lag_ms=300.0)


def final(text: str, start: float = 1.0) -> Final:
    return Final(utterance=0, text=text, words=(Word(text, start, 2, 0.9),), start=0.9, end=2.5, confidence=0.9)


def test_committed_is_plain_and_volatile_is_dim():
    screen = Terminal()
    with LiveDisplay(screen) as display:
        display.show(SpeechStarted(utterance=0, start=1.0))
        display.show(partial("ONE", "TWO"))
    shown = screen.getvalue()
    assert re.search(r"ONE \x1b\[2mTWO", shown)
    assert "0:01.2" in ESCAPES.sub("", shown)


def test_a_final_stands_once_and_nothing_else_is_left():
    terminal = Terminal()
    with LiveDisplay(terminal, meter=True) as display:
        display.show(partial("ONE", "TOO"))
        assert terminal.screen() == ["0:01.2     ONE TOO", " " * TIME_CELLS + "─" * 20]
        display.show(final("ONE TWO", 3_601.04))
        assert terminal.screen() == ["1:00:01.0  ONE TWO", " " * TIME_CELLS + "─" * 20]
        display.show(SpeechEnded(utterance=0, end=2.5, reason="silence"))
        display.show(final("THREE"))
    assert terminal.screen() == ["1:00:01.0  ONE TWO", "0:01.0     THREE"]


def test_the_old_partial_is_gone_with_the_write_that_shows_the_final():
    terminal = Terminal()
    with LiveDisplay(terminal) as display:
        display.show(partial("ONE", "TOO"))
        place = len(terminal.getvalue())
        display.show(final("ONE TWO"))
        assert "TOO" not in terminal.since(place)


def test_a_long_utterance_shows_its_end_in_a_few_lines(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "24")
    screen = Terminal()
    with LiveDisplay(screen) as display:
        place = len(screen.getvalue())
        display.show(partial(" ".join(f"W{number}" for number in range(100)), "END"))
        shown = ESCAPES.sub("", screen.since(place))
    assert "END" in shown
    assert "W0 " not in shown
    assert shown.count("\n") <= OPEN_LINES


def test_text_is_never_markup():
    screen = Terminal()
    with LiveDisplay(screen) as display:
        display.show(final("[red]NOT :smile: MARKUP[/red]"))
    assert "[red]NOT :smile: MARKUP[/red]" in ESCAPES.sub("", screen.getvalue())


def test_an_utterance_of_noise_disappears():
    screen = Terminal()
    with LiveDisplay(screen) as display:
        display.show(SpeechStarted(utterance=0, start=1.0))
        display.show(partial("", "OH"))
        place = len(screen.getvalue())
        display.show(SpeechEnded(utterance=0, end=2.0, reason="silence"))
        display.show(Warning(code="degraded", message="fewer partials"))
    assert "OH" not in screen.since(place)
    assert "degraded: fewer partials" in ESCAPES.sub("", screen.since(place))


def test_the_meter_moves_with_the_level():
    screen = Terminal()
    with LiveDisplay(screen, meter=True) as display:
        display.level(-30.0)
        assert screen.getvalue().count("━") == 10
