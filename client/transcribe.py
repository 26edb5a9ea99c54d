"""`xlsr-live transcribe`: recordings to text, over the same path as live audio."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import click

from ..streaming.errors import AudioError, XlsrLiveError
from .formats import Output
from .local import load_recognizer, needs
from .options import device_option, lm_option, model_options, session_config, session_options
from .output import complain, live_output, output_options, places, progress, written

EPILOG = """\b
Examples:
  xlsr-live transcribe talk.flac
  xlsr-live transcribe talk.flac --pace 1              watch it as if it were live
  xlsr-live transcribe *.wav -f json > all.json
  xlsr-live transcribe *.wav -f srt -o subtitles/      one file for each recording
  xlsr-live transcribe a.wav --model facebook/mms-1b-all --language fra --device cuda
"""


@click.command(epilog=EPILOG, short_help="Recordings to text or subtitles.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option(
    "--pace",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="X",
    help="Speed: 1: as it was spoken, live on a terminal; 2: twice as fast; 0: as fast as it goes.",
)
@output_options("text", folder=True)
@model_options
@lm_option
@device_option("--device")
@session_options
def transcribe(
    files: tuple[Path, ...],
    pace: float,
    form: str | None,
    output: Path | None,
    model: str,
    revision: str | None,
    language: str | None,
    dtype: str,
    threads: int | None,
    lm: str | None,
    compute: str,
    **settings: Any,
) -> int:
    """Write what is said in recordings (WAV, FLAC, Ogg, MP3).

    The audio goes through the gate and the live recognizer, as from a microphone. --mode offline does without both: one
    pass over each whole file. A file that cannot be read does not stop the others, but the exit status is then 2.
    """
    config = session_config(settings)
    planned = places(files, form or "text", output)
    readable = [file for file in files if _readable(file)]
    if not readable:
        return 2
    with needs("server", "recognising speech here"):
        from . import recordings

    several, failed = len(files) > 1, len(files) - len(readable)
    with ExitStack() as stack:
        recognizer = stack.enter_context(
            load_recognizer(
                model, revision=revision, language=language, device=compute, dtype=dtype, threads=threads, lm=lm
            )
        )
        advance, out = stack.enter_context(progress(0 if pace else len(readable)))
        shared: Output | None = None
        if not planned:
            common = live_output(form, None, default="text", live=pace > 0, several=several, out=out)
            shared = stack.enter_context(common)
        for file in readable:
            with nullcontext(shared) if shared else written(form or "text", planned[file]) as shown:
                shown.begin(str(file))
                try:
                    if config.mode == "offline":
                        recordings.offline(recognizer, file, config, shown)
                    elif asyncio.run(recordings.live(recognizer, file, config, pace, shown)):
                        return 130
                except XlsrLiveError as error:
                    complain(str(error) if isinstance(error, AudioError) else f"{file}: {error}")
                    failed += 1
                advance()
    return 2 if failed else 0


def _readable(file: Path) -> bool:
    """Say at once what is wrong with a file, before the model is loaded for it."""
    from ..streaming.files import open_audio

    try:
        open_audio(file)
    except AudioError as error:
        complain(str(error))
        return False
    return True
