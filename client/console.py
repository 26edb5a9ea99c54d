"""The terminal: encodings, messages on stderr, a spinner; and the message for a missing package."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from ..streaming.errors import XlsrLiveError
from .errors import MissingPackage


def prepare_streams() -> None:
    """Replace characters that the terminal cannot encode, so printing never fails."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


def use_utf8() -> None:
    """Print in UTF-8 from here on: machine-readable output has one encoding on every system."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace", newline="\n")


def can_print(text: str, stream: TextIO) -> bool:
    """Whether `stream` can encode these characters."""
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def printable(name: str | Path) -> str:
    """A file name as valid text, with replacements for bytes that are not UTF-8."""
    return os.fsencode(name).decode(errors="replace")


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Turn an `OSError` in the block into an `XlsrLiveError` that names the file, and remove an empty file."""
    try:
        yield
    except OSError as error:
        remove_empty(path)
        raise XlsrLiveError(f"cannot write {path}: {error.strerror or error}") from error


def remove_empty(path: Path) -> None:
    """Delete a regular file without content."""
    with suppress(OSError):
        if path.is_file() and not path.stat().st_size:
            path.unlink()


def report_saved(path: Path, amount: str) -> None:
    """Print the name of a written file and the amount in it on stderr, if that is a terminal."""
    if sys.stderr.isatty():
        print(f"saved {printable(path)}" + f" ({amount})" * bool(amount), file=sys.stderr)


def without_controls(text: str) -> str:
    """The text with blank spaces in place of control characters, which could steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def complain(message: str) -> None:
    """Print one line on stderr."""
    line = " ".join(message.split())
    print(f"xlsr-live: {line}", file=sys.stderr)


@contextmanager
def needs(extra: str, purpose: str) -> Generator[None]:
    """Turn a failed import inside the block into a `MissingPackage` error that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("xlsr_live"):
            raise  # one of our own modules: pip cannot add it
        raise MissingPackage(
            f"{purpose} needs the package {error.name}, which is not installed: pip install 'xlsr-live[{extra}]'"
        ) from error


@contextmanager
def waiting(what: str) -> Generator[Callable[[str], None]]:
    """Show a spinner on stderr while the block runs, if stderr is a terminal. The block may call for another text."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.markup import escape

    spinner = "dots" if can_print("⠋", sys.stderr) else "line"
    with Console(stderr=True, no_color=True).status(f"[dim]{escape(what)} ...", spinner=spinner) as status:
        yield lambda text: status.update(f"[dim]{escape(text)} ...")


def steerable() -> bool:
    """Whether the terminal can move its cursor."""
    return os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
