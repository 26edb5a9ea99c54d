"""Push to talk on a terminal, which reports the letters of a key but not its release.

A held Space repeats, so it ends when the repeats end. A Space that does not repeat switches: on, and off again. Enter
ends the open utterance.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from typing import Final

import click

from ..pump import END_HERE, Block, EndHere

KEEP_ALIVE_S: Final = 15.0  # a server drops clients that send nothing for a minute
REPEAT_S: Final = 0.25  # longer than the pause between the repeats of a key, on every system


class _Talk(Enum):
    OFF = auto()
    ON = auto()  # since one press
    REPEATING = auto()  # on until no repeat comes: the key is held, or this was the press that switches off


class TalkKey:
    """Whether the user wants to talk; times are seconds of any clock."""

    def __init__(self) -> None:
        self._state = _Talk.OFF
        self._until = 0.0  # of REPEATING

    def press(self, now: float) -> None:
        """A press, or a repeat, which looks the same."""
        if self.talking(now):
            self._state, self._until = _Talk.REPEATING, now + REPEAT_S
        else:
            self._state = _Talk.ON

    def talking(self, now: float) -> bool:
        if self._state is _Talk.REPEATING and now >= self._until:
            self._state = _Talk.OFF
        return self._state is not _Talk.OFF


async def push_to_talk(
    blocks: AsyncIterator[Block],
    key: TalkKey,
    keys: Callable[[], str],
    show: Callable[[bool], None],
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Block | EndHere]:
    """The blocks while the user talks, and an `END_HERE` after each time and now and then between. `keys` returns the
    letters typed since its last call, `show` gets each change."""
    talking = unended = False
    sent = clock()
    show(talking)
    async for block in blocks:
        ends = False
        for letter in keys():
            if letter == " ":
                key.press(clock())
            ends = ends or letter in "\r\n"
        before, talking = talking, key.talking(clock())
        if before != talking:
            show(talking)
        if before or talking:
            unended, sent = True, clock()
            yield block
        if (unended and (ends or not talking)) or clock() - sent > KEEP_ALIVE_S:
            unended, sent = False, clock()
            yield END_HERE


@contextmanager
def keyboard() -> Generator[Callable[[], str]]:
    """The letters typed on this terminal since the last call, unechoed. Raises `click.UsageError` without one."""
    if not sys.stdin.isatty():
        raise click.UsageError("--push-to-talk reads the keyboard of a terminal, and standard input is none")
    if sys.platform == "win32":
        import msvcrt

        yield lambda: "".join(msvcrt.getwch() for _ in iter(msvcrt.kbhit, False))
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor, termios.TCSAFLUSH)  # Ctrl-C still ends the program
    try:
        yield lambda: _typed(descriptor)
    finally:
        with suppress(termios.error):  # the terminal was closed
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _typed(descriptor: int) -> str:
    if not select.select([descriptor], [], [], 0)[0]:
        return ""
    return os.read(descriptor, 1_024).decode(errors="replace")
