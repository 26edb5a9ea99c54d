"""The live display on a real pseudo-terminal, rendered by pyte, a terminal emulator."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import sys
import termios
from collections.abc import Iterator

import pyte
import pytest
from xlsr_live.client.output.display import TIME_CELLS, LiveDisplay
from xlsr_live.client.output.open import live_output
from xlsr_live.client.output.options import OutputOptions
from xlsr_live.client.output.progress import progress
from xlsr_live.streaming.protocol.events import Final, Partial, SpeechEnded, SpeechStarted, Translation, Warning, Word

MARK = b"\x1b]9;mark\x07"


class Terminal:
    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.master, slave = os.openpty()
        self.out = os.fdopen(slave, "w", encoding="utf-8")
        self.seen = b""
        self.emulator = pyte.HistoryScreen(columns, lines, history=1_000)
        self.stream = pyte.ByteStream(self.emulator)
        self.resize(columns, lines, notify=False)

    def resize(self, columns: int, lines: int, notify: bool = True) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.emulator.resize(lines, columns)
        if notify:
            os.kill(os.getpid(), signal.SIGWINCH)

    def read(self) -> bytes:
        """The output since the last call. The terminal delivers it late, so a marker shows where it ends."""
        self.out.write(MARK.decode())
        self.out.flush()
        new = b""
        while not new.endswith(MARK):
            new += os.read(self.master, 1 << 16)
        return self._take(new.removesuffix(MARK))

    def interrupt(self) -> None:
        """Ctrl-C, as the terminal shows it. With the key it drops all output that it has not delivered yet."""
        self.read()
        os.write(self.master, b"\x03")
        shown = b""
        while b"^C" not in shown:
            shown += os.read(self.master, 1 << 16)
        self._take(shown)

    def _take(self, new: bytes) -> bytes:
        self.stream.feed(new)
        self.seen += new
        return new

    def screen(self) -> list[str]:
        self.read()
        lines = [line.rstrip() for line in self.emulator.display]
        return lines[: max((n for n, line in enumerate(lines, 1) if line), default=0)]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    yield terminal
    terminal.out.close()
    os.close(terminal.master)


def partial(committed: str, volatile: str) -> Partial:
    words = tuple(Word(word, 1.25, 1.5, 0.9) for word in f"{committed} {volatile}".split())
    return Partial(utterance=0, committed=committed, volatile=volatile, words=words, audio_s=2.0, lag_ms=300.0)


def final(text: str, start: float = 1.0) -> Final:
    return Final(utterance=0, text=text, words=(Word(text, start, 2, 0.9),), start=0.9, end=2.5, confidence=0.9)


def test_committed_words_are_plain_volatile_words_dim_and_nothing_has_a_colour(terminal: Terminal):
    with LiveDisplay(terminal.out, meter=True) as display:
        display.show(SpeechStarted(utterance=0, start=1.0))
        display.show(partial("ONE", "TWO"))
        display.level(-1.0)
        display.show(Warning(code="degraded", message="fewer partials"))
        terminal.read()
    assert b"ONE \x1b[2mTWO\x1b[0m" in terminal.seen
    assert b"too loud" in terminal.seen
    assert all(cell.fg == cell.bg == "default" for row in terminal.emulator.buffer.values() for cell in row.values())


def test_a_final_appears_once_and_nothing_else_remains(terminal: Terminal):
    meter = " " * TIME_CELLS + "─" * 20
    with LiveDisplay(terminal.out, meter=True) as display:
        display.show(partial("ONE", "TOO"))
        assert terminal.screen() == ["0:01.2     ONE TOO", meter]
        display.show(final("ONE TWO", 3_601.04))
        assert terminal.screen() == ["1:00:01.0  ONE TWO", meter]
        display.show(SpeechEnded(utterance=0, end=2.5, reason="silence"))
        display.show(final("THREE"))
        assert terminal.emulator.cursor.hidden
    assert terminal.screen() == ["1:00:01.0  ONE TWO", "0:01.0     THREE"]
    assert not terminal.emulator.cursor.hidden


def test_only_changes_are_written(terminal: Terminal):
    first = " ".join(["SEVENTEEN"] * 13)  # two lines and a word
    with LiveDisplay(terminal.out) as display:
        display.show(partial(first, "ON"))
        terminal.read()
        display.show(partial(f"{first} ONE", "TWO"))
        assert terminal.read().count(b"SEVENTEEN") == 1
        display.show(final(f"{first} ONE TWO", 1.25))
        assert terminal.read().count(b"SEVENTEEN") == 1


def test_no_line_moves_while_an_utterance_grows_longer_than_the_window_is_wide_nor_with_its_final(terminal: Terminal):
    text = [f"WORD{number}" for number in range(60)]
    with LiveDisplay(terminal.out) as display:
        display.show(final("BEFORE"))
        before = terminal.screen()
        for count in range(len(text) - 2):
            display.show(partial(" ".join(text[:count]), " ".join(text[count : count + 2])))
            lines = terminal.screen()
            assert lines[: len(before) - 1] == before[:-1]
            assert lines[len(before) - 1].startswith(before[-1])
            before = lines
        display.show(final(" ".join(text), 1.25))
        assert terminal.screen()[: len(before) - 1] == before[:-1]


@pytest.mark.parametrize("columns", [24, 40, 79, 200])
def test_a_new_size_in_mid_sentence_leaves_every_word_once(terminal: Terminal, columns: int):
    finals = [f"FINAL{number} OF A FEW WORDS OR MORE" for number in range(3)]
    with LiveDisplay(terminal.out, meter=True) as display:
        for text in finals:
            display.show(final(text))
        display.show(partial("A SENTENCE THAT IS NOT OVER", "YET"))
        terminal.read()
        terminal.resize(columns, 40)
        text = " ".join(" ".join(line[TIME_CELLS:] for line in terminal.screen()).split())
        assert text.startswith(" ".join([*finals, "A SENTENCE THAT IS NOT OVER YET"]))
        assert all(len(line) < columns for line in terminal.screen())
        display.show(partial("A SENTENCE THAT IS NOT OVER YET", "BUT"))
        display.show(final("A SENTENCE THAT IS OVER NOW"))
    text = " ".join(" ".join(line[TIME_CELLS:] for line in terminal.screen()).split())
    assert text == " ".join([*finals, "A SENTENCE THAT IS OVER NOW"])


def test_an_utterance_that_is_longer_than_the_window_is_high_shows_its_end_and_then_all(terminal: Terminal):
    terminal.resize(24, 6, notify=False)
    text = " ".join(f"W{number}" for number in range(100))
    with LiveDisplay(terminal.out) as display:
        display.show(partial(text, "END"))
        assert terminal.screen()[-1].endswith("END")
        assert len(terminal.screen()) <= 5
        display.show(final(f"{text} END"))
        terminal.read()
    above = ["".join(row[n].data for n in range(24)).rstrip() for row in terminal.emulator.history.top]
    shown = " ".join(" ".join(line[TIME_CELLS:] for line in [*above, *terminal.screen()]).split())
    assert shown == f"{text} END"


def test_text_cannot_steer_the_terminal(terminal: Terminal):
    with LiveDisplay(terminal.out) as display:
        display.show(final("[red]NOT :smile: MARKUP[/red] \x1b[2J\x07"))
        display.show(Translation(utterance=0, language="\x1b[2J-a-long-tag", text="sí \x1b[2J"))
    assert terminal.screen() == ["0:01.0     [red]NOT :smile: MARKUP[/red] [2J", " [2J-a-lon sí [2J"]


def test_an_utterance_of_noise_disappears(terminal: Terminal):
    with LiveDisplay(terminal.out) as display:
        display.show(SpeechStarted(utterance=0, start=1.0))
        assert terminal.screen() == [" " * TIME_CELLS + "..."]
        display.show(partial("", "OH"))
        display.show(SpeechEnded(utterance=0, end=2.0, reason="silence"))
        assert terminal.screen() == []
        display.show(Warning(code="degraded", message="fewer partials"))
    assert terminal.screen() == [" " * TIME_CELLS + "degraded: fewer partials"]


def test_output_to_stderr_appears_above_the_live_line(terminal: Terminal, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", terminal.out)
    with LiveDisplay(terminal.out) as display:
        display.show(partial("ONE", "TWO"))
        print("xlsr-live: the disk is full", file=sys.stderr)
        assert terminal.screen() == [" " * TIME_CELLS + "xlsr-live: the disk is full", "0:01.2     ONE TWO"]


def test_what_the_terminal_echoes_is_erased(terminal: Terminal):
    with LiveDisplay(terminal.out, meter=True) as display:
        display.show(partial("ONE", "TOO"))
        terminal.interrupt()
        assert terminal.screen()[-1] == "^C"
        display.show(final("ONE TWO"))
        assert terminal.screen() == ["0:01.0     ONE TWO", " " * TIME_CELLS + "─" * 20]
        terminal.interrupt()
    assert terminal.screen() == ["0:01.0     ONE TWO"]


def test_wide_characters_take_two_cells(terminal: Terminal):
    terminal.resize(32, 10, notify=False)
    with LiveDisplay(terminal.out) as display:
        display.show(final("語" * 25))
        terminal.read()
    rows = ["".join(terminal.emulator.buffer[row][n].data for n in range(32)).split() for row in range(3)]
    assert [row[-1].count("語") for row in rows] == [10, 10, 5]


def test_the_meter_moves_with_the_level(terminal: Terminal):
    with LiveDisplay(terminal.out, meter=True) as display:
        display.level(-30.0)
        assert terminal.screen()[-1].count("━") == 10


@pytest.mark.parametrize("form", [None, "plain"])
def test_a_terminal_that_cannot_move_its_cursor_and_a_log_get_plain_lines(
    form: str | None, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "stdout", terminal.out)
    if form is None:
        monkeypatch.setenv("TERM", "dumb")
    with live_output(OutputOptions(form=form)) as shown:
        shown.begin("microphone")
        shown.show(partial("ONE", "TWO"))
        shown.show(final("ONE TWO"))
    assert terminal.read() == b"0:01.0  ONE TWO\r\n"


def test_the_progress_bar_shows_progress_speed_and_time_without_colours(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "stdout", terminal.out)
    monkeypatch.setattr(sys, "stderr", terminal.out)
    now = [0.0]
    monkeypatch.setattr("rich.console.monotonic", lambda: now[0])
    with progress(60.0, audio=True) as (advance, out):
        for _ in range(2):
            now[0] += 1.0
            advance(15.0)
        out.write("a.wav: ONE TWO\n")
    terminal.read()  # including the last one drawn
    assert re.search("━ +50% 15.0x 00:02".encode(), re.sub(rb"\x1b\[[0-9;]*m", b"", terminal.seen))
    assert set(re.findall(rb"\x1b\[([0-9;]*)m", terminal.seen)) <= {b"", b"0", b"1", b"2"}  # plain, bold, dim
    assert terminal.screen() == ["a.wav: ONE TWO"]
    assert not terminal.emulator.cursor.hidden
