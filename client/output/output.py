"""Which output a command gets: a file, the live display on a terminal, or a writer on standard output."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeVar, cast

import click

from ...streaming.config import SessionConfig
from ...streaming.errors import XlsrLiveError
from ...streaming.protocol.events import Event, Partial, SessionEnded, SpeechEnded
from .formats import FORMATS, Output

if TYPE_CHECKING:
    from rich.console import Console

F = TypeVar("F", bound=Callable[..., Any])

SUFFIXES: Final = {"text": "txt", "plain": "txt"}  # of files, where the name of the format is not one


@dataclass(frozen=True)
class Wanted:
    """What a command is to show and write, as its options say."""

    form: str | None = None
    path: Path | None = None
    captions: tuple[str, ...] = ()
    summary: bool = False
    reference: Path | None = None


def output_options(default: str, folder: bool = False) -> Callable[[F], F]:
    """--format, --plain, --output, --captions, --summary and --reference, handed over as `wanted: Wanted`.

    `default` says what is written without --format.
    """
    kinds = click.Choice(list(FORMATS))
    where = "Write to this file; for several recordings, a folder." if folder else "Write to this file."
    path = click.Path(path_type=Path)
    options = (
        click.option("--format", "-f", "form", type=kinds, help=f"What is written. [default: {default}]"),
        click.option("--plain", is_flag=True, help="The same as --format plain: lines with times, for logs."),
        click.option("--output", "-o", "path", type=path, metavar="PATH", help=where),
        click.option(
            "--captions",
            multiple=True,
            metavar="TARGET",
            help="Captions as it is spoken: FILE.vtt, .srt, .txt, .jsonl; obs://HOST; youtube. May be repeated.",
        ),
        click.option("--summary", is_flag=True, help="At the end: words, latency, speed."),
        click.option("--reference", type=path, metavar="FILE", help="What is said; the summary then has the WER."),
    )

    def decorate(command: F) -> F:
        @wraps(command)
        def wanting(
            form: str | None,
            plain: bool,
            path: Path | None,
            captions: tuple[str, ...],
            summary: bool,
            reference: Path | None,
            **others: Any,
        ) -> Any:
            if plain and form not in (None, "plain"):
                raise click.UsageError(f"--plain or --format {form}, not both")
            wanted = Wanted("plain" if plain else form, path, captions, summary or reference is not None, reference)
            return command(wanted=wanted, **others)

        for option in reversed(options):
            wanting = option(wanting)
        return cast(F, wanting)

    return decorate


@contextmanager
def live_output(
    wanted: Wanted,
    *,
    default: str = "jsonl",
    live: bool = True,
    several: bool = False,
    meter: bool = False,
    out: TextIO | None = None,
) -> Generator[Output]:
    """The display where standard output is a terminal and text is wanted `live`; else what was asked for."""
    if live and wanted.form in (None, "text") and wanted.path is None and sys.stdout.isatty():
        from .display import LiveDisplay

        if steerable():
            with LiveDisplay(sys.stdout, several=several, meter=meter) as display:
                yield display
            return
        default = "plain"
    with written(wanted.form or default, wanted.path, several=several, out=out) as output:
        yield output


def steerable() -> bool:
    """Whether the terminal can move its cursor."""
    return os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


@contextmanager
def beside(wanted: Wanted, *, config: SessionConfig, paced: bool, local: bool) -> Generator[list[Output]]:
    """What goes on beside the output: captions, and the summary at the end.

    `paced`: the audio comes as it is spoken, so words can be late; `local`: the model works in this process.
    """
    from ..captions.targets import caption_output
    from .summary import Summary, read_reference

    with ExitStack() as stack:
        outputs: list[Output] = []
        if wanted.summary:
            reference = read_reference(wanted.reference) if wanted.reference else None
            outputs.append(stack.enter_context(Summary(sys.stderr, reference=reference, paced=paced, local=local)))
        for target in wanted.captions:
            outputs.append(stack.enter_context(caption_output(target, early=config.appends, paced=paced)))
        yield outputs


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
def progress(total: float, *, audio: bool = False) -> Generator[tuple[Callable[..., None], TextIO]]:
    """A bar on stderr where that is a terminal, for more than one of something, or for seconds of `audio`.

    Yields what moves it on, by 1 unless told otherwise, and the stream to write text to meanwhile.
    """
    if total < (0.1 if audio else 2) or not sys.stderr.isatty() or not steerable():
        yield _nothing, sys.stdout
        return
    from rich.console import Console

    from .bar import bar

    console = Console(stderr=True, no_color=True)
    with bar(console, audio=audio) as shown:
        task = shown.add_task("", total=total)
        out = _Above(console) if sys.stdout.isatty() else sys.stdout

        def advance(amount: float = 1.0) -> None:
            shown.advance(task, amount)

        yield advance, out


def _nothing(amount: float = 1.0) -> None: ...


class Along(Output):
    """Moves a bar along with the audio of one recording after another."""

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
