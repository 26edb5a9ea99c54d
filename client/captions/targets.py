"""`--captions TARGET`: where captions go while they are spoken."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import click

from ...streaming.cues import CueMaker
from ..formats import JsonLines, Output, Srt, Vtt
from .files import Appended, Replaced
from .rollup import RollUp

FILES: Final = (".vtt", ".srt", ".txt", ".jsonl")


@contextmanager
def caption_output(target: str, *, early: bool) -> Generator[Output]:
    """What writes captions to `target`. `early`: finals append, so what is committed can be captioned before them.

    Raises `click.UsageError` for what is no target, and `XlsrLiveError` for a file that cannot be written.
    """
    with ExitStack() as stack:
        output = _file_output(Path(target), CueMaker(early=early), stack)
        output.quiet = True
        yield output


def _file_output(path: Path, maker: CueMaker, stack: ExitStack) -> Output:
    match path.suffix.lower():
        case ".vtt":
            return Vtt(stack.enter_context(Replaced(path)), maker=maker)
        case ".srt":
            return Srt(stack.enter_context(Replaced(path)), maker=maker)
        case ".txt":
            return RollUp(stack.enter_context(Replaced(path)))
        case ".jsonl":
            return JsonLines(stack.enter_context(Appended(path)))
        case _:
            raise click.UsageError(f"--captions {path}: a file ending in {', '.join(FILES)}")
