"""Opens the output of a command: a file, the live display on a terminal, or a writer on standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, TextIO

import click

from ...streaming.captions.translated import TranslatedCues
from ..console import remove_empty, report_saved, steerable, use_utf8, writing
from .by_language import SpokenFiles, TranslatedFiles
from .case import Case, in_case
from .formats import FORMATS, SUBTITLES, Output, Together
from .names import unused
from .options import OutputOptions

MACHINE_FORMATS: Final = frozenset({"jsonl", "json", "srt", "vtt"})
SUFFIXES: Final = {"text": "txt", "plain": "txt"}  # of files; the other formats are their own suffix


@contextmanager
def live_output(
    options: OutputOptions,
    *,
    default: str = "jsonl",
    live: bool = True,
    several: bool = False,
    meter: bool = False,
    out: TextIO | None = None,
) -> Generator[Output]:
    """The display if standard output is a terminal and the command shows `live` text; else a writer."""
    if live and options.form in (None, "text") and options.path is None and sys.stdout.isatty():
        from .display import LiveDisplay

        if steerable():
            with LiveDisplay(sys.stdout, several=several, meter=meter) as display:
                yield in_case(display, options.case)
            return
        default = "plain"
    with written(options.form or default, options.path, options, several=several, out=out) as output:
        yield output


@contextmanager
def written(
    form: str,
    path: Path | None,
    options: OutputOptions = OutputOptions(),  # noqa: B008 - it is frozen
    *,
    several: bool = False,
    out: TextIO | None = None,
) -> Generator[Output]:
    """A writer to the file `path`, else to `out`, else to standard output.

    With languages to translate into, subtitles in files have one more file for each; on standard output they are
    those of the translation. `per_language` adds one for each language of the speech.
    """
    subtitles = form in SUBTITLES and bool(options.languages)
    case: Case = "model" if form in ("json", "jsonl") else options.case
    if path is None:
        if form in MACHINE_FORMATS:
            use_utf8()
        if subtitles and len(options.languages) > 1:
            raise click.UsageError(f"{form} in several languages needs files: --output FILE.{form}")
        maker = {"maker": TranslatedCues()} if subtitles else {}
        with FORMATS[form](out or sys.stdout, several=several, **maker) as output:
            yield in_case(output, case)
        return

    def open_file(path: Path) -> AbstractContextManager[Output]:
        return _to_file(FORMATS[form], unused(path, overwrite=options.overwrite), several)

    path = unused(path, overwrite=options.overwrite)
    with ExitStack() as stack:
        outputs = [stack.enter_context(_to_file(FORMATS[form], path, several))]
        if subtitles:
            outputs.append(stack.enter_context(TranslatedFiles(path, open_file)))
        if options.per_language and form in SUBTITLES:
            outputs.append(stack.enter_context(SpokenFiles(path, open_file)))
        yield in_case(Together(outputs) if len(outputs) > 1 else outputs[0], case)


@contextmanager
def _to_file(make: Callable[..., Output], path: Path, several: bool) -> Generator[Output]:
    """A writer to a file, which a terminal reports at the end. An incomplete file is removed if it is empty."""
    with writing(path):
        file = path.open("w", encoding="utf-8", errors="replace", newline="\n")
    output, complete = make(file, several=several), False
    try:
        with output:
            yield output
        if not output.broken:
            with writing(path):
                file.close()
            complete = True
            report_saved(path, output.amount)
    finally:
        with suppress(OSError):
            file.close()
        if not complete:
            remove_empty(path)


def output_paths(files: Sequence[Path], form: str, path: Path | None) -> dict[Path, Path]:
    """The output file of each recording; empty if all text goes to standard output.

    Raises `click.UsageError` if two recordings would have the same file.
    """
    several = len(files) > 1
    if path is None:
        if several and form in ("srt", "vtt"):
            raise click.UsageError(f"{form} of several recordings needs an output folder: --output DIR")
        return {}
    if not several and not path.is_dir() and not _names_folders():
        return {files[0]: path}
    planned = {file: path / f"{_stem(file)}.{SUFFIXES.get(form, form)}" for file in files}
    if len(set(planned.values())) < len(files):
        raise click.UsageError("two recordings have the same name, so they would have the same output file")
    path.mkdir(parents=True, exist_ok=True)
    return planned


def _names_folders() -> bool:
    """Whether --output ends in a separator or an argument is a folder: then one recording has a folder, too."""
    given = click.get_current_context().params
    return given["path"].endswith(("/", os.sep)) or any(file.is_dir() for file in given["files"])


def _stem(file: Path) -> str:
    return "stdin" if file.name == "-" else file.stem
