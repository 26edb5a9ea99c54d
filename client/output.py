"""Which output a command gets: a file, the live display on a terminal, or a writer on standard output."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeVar

import click

from ..streaming.errors import XlsrLiveError
from .formats import FORMATS, Output

if TYPE_CHECKING:
    from rich.console import Console

F = TypeVar("F", bound=Callable[..., Any])

SUFFIXES: Final = {"text": "txt"}  # of files, where the name of the format is not one


def output_options(default: str, folder: bool = False) -> Callable[[F], F]:
    """--format and --output; `default` says what is written without --format."""
    kinds = click.Choice(list(FORMATS))
    where = "Write to this file; for several recordings, a folder." if folder else "Write to this file."

    def decorate(command: F) -> F:
        path = click.Path(path_type=Path)
        command = click.option("--output", "-o", type=path, metavar="PATH", help=where)(command)
        return click.option("--format", "-f", "form", type=kinds, help=f"What is written. [default: {default}]")(
            command
        )

    return decorate


@contextmanager
def live_output(
    form: str | None,
    path: Path | None,
    *,
    default: str = "jsonl",
    live: bool = True,
    several: bool = False,
    meter: bool = False,
    out: TextIO | None = None,
) -> Generator[Output]:
    """The display where standard output is a terminal and text is wanted `live`; else `form`, or `default`."""
    if live and form in (None, "text") and path is None and sys.stdout.isatty():
        from .display import LiveDisplay

        with LiveDisplay(sys.stdout, several=several, meter=meter) as display:
            yield display
    else:
        with written(form or default, path, several=several, out=out) as output:
            yield output


@contextmanager
def written(form: str, path: Path | None, *, several: bool = False, out: TextIO | None = None) -> Generator[Output]:
    """A writer on the file `path`, else on `out`, else on standard output."""
    if path is None:
        with FORMATS[form](out or sys.stdout, several=several) as output:
            yield output
        return
    try:
        file = path.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise XlsrLiveError(f"cannot write {path}: {error.strerror}") from error
    with file, FORMATS[form](file, several=several) as output:
        yield output


def places(files: Sequence[Path], form: str, path: Path | None) -> dict[Path, Path]:
    """The file for the text of each recording; empty where all of it goes to standard output.

    Raises `click.UsageError` where two would share a file, or would have to.
    """
    several = len(files) > 1
    if path is None:
        if several and form in ("srt", "vtt"):
            raise click.UsageError(f"{form} of several recordings needs a folder for the results: --output DIR")
        return {}
    if not several and not path.is_dir():
        return {files[0]: path}
    planned = {file: path / f"{file.stem}.{SUFFIXES.get(form, form)}" for file in files}
    if len(set(planned.values())) < len(files):
        raise click.UsageError("two of the recordings have the same name: their results would share one file")
    path.mkdir(parents=True, exist_ok=True)
    return planned


@contextmanager
def progress(total: int) -> Generator[tuple[Callable[[], None], TextIO]]:
    """A bar on stderr where that is a terminal. Yields what moves it on, and the stream to write text to meanwhile."""
    if total < 2 or not sys.stderr.isatty():
        yield (lambda: None), sys.stdout
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("", total=total)
        out = _Above(console) if sys.stdout.isatty() else sys.stdout
        yield (lambda: bar.advance(task)), out


class _Above(io.StringIO):
    """Text for a terminal on which a progress bar stands: it appears above the bar."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def write(self, text: str, /) -> int:
        self._console.print(text, end="", soft_wrap=True, markup=False, highlight=False)
        return len(text)


def complain(message: str) -> None:
    """One line on stderr."""
    line = " ".join(message.split())
    print(f"xlsr-live: {line}", file=sys.stderr)
