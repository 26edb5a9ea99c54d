"""`--type`: writes finals into the window with the focus, through a program that plays a keyboard."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Final

import click

from ...streaming.protocol.events import Final as FinalEvent
from ..console import complain, without_controls
from .formats import Output

PATIENCE: Final = 60.0  # seconds to type one final
# They read the text from standard input, so other users do not see it in the list of processes.
# Wayland, where the compositor allows virtual keyboards (not GNOME). The window needs a moment for the new keyboard:
# without the pause (ms) it loses the first character of one final in five.
WTYPE: Final = ("wtype", "-s", "100", "-")
YDOTOOL: Final = ("ydotool", "type", "--file", "-")  # both, through /dev/uinput; needs its daemon
XDOTOOL: Final = ("xdotool", "type", "--clearmodifiers", "--file", "-")  # X11
# xdotool adds a letter that the keyboard lacks for a moment, in which the window must read it.
RARE_KEYS: Final = ("--delay", "100")  # ms


def typing_program(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The command that types its standard input. Raises `click.UsageError` if there is none for this desktop."""
    wayland, x11 = environment.get("WAYLAND_DISPLAY"), environment.get("DISPLAY")
    if not wayland and not x11:
        raise click.UsageError("--type needs a desktop (WAYLAND_DISPLAY or DISPLAY is not set)")
    programs = [WTYPE, YDOTOOL] if wayland else [XDOTOOL, YDOTOOL]
    for program in programs:
        if shutil.which(program[0]):
            return program
    first = programs[0][0]
    raise click.UsageError(f"--type needs {first} or ydotool: install one (Debian and Ubuntu: apt install {first})")


def commands(program: tuple[str, ...], text: str) -> list[tuple[tuple[str, ...], str]]:
    """The commands that type a text, with the part that each reads."""
    if program[0] != XDOTOOL[0]:
        return [(program, text)]
    slowly = (*program[:2], *RARE_KEYS, *program[2:])
    return [(slowly if rare else program, "".join(letters)) for rare, letters in groupby(text, _rare)]


def _rare(letter: str) -> bool:
    """Whether a keyboard for the letter's script may lack it: those for other scripts than Latin have all letters."""
    return not letter.isascii() and unicodedata.name(letter, "").startswith("LATIN")


class Typist(Output):
    """Types finals in order, in a thread of its own, each with a blank space after it."""

    def __init__(self, program: tuple[str, ...]) -> None:
        super().__init__(sys.stdout)
        self._program = program
        self._executor = ThreadPoolExecutor(1, "typing")
        self._failed = False

    quiet = True

    def final(self, final: FinalEvent) -> None:
        # A server's text must not press keys such as Enter.
        if text := " ".join(without_controls(final.text).split()):
            self._executor.submit(self._type, text + " ")

    def close(self) -> None:
        self._executor.shutdown()

    def _type(self, text: str) -> None:
        try:
            for command, part in commands(self._program, text):
                subprocess.run(command, input=part.encode(), capture_output=True, timeout=PATIENCE, check=True)
        except subprocess.CalledProcessError as error:
            self._fail(error.stderr.decode(errors="replace").strip().partition("\n")[0] or f"status {error.returncode}")
        except (OSError, subprocess.TimeoutExpired) as error:
            self._fail(str(error))

    def _fail(self, reason: str) -> None:
        if not self._failed:
            self._failed = True
            complain(f"{self._program[0]} cannot type: {reason}")
