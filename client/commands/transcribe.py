"""`xlsr-live transcribe`: recordings to text, through the same pipeline as live audio."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ...streaming.errors import AudioError, XlsrLiveError
from ..console import complain, needs
from ..options.model import lid_option, load_recognizer, recognizer_options, take_model_options, translator_options
from ..options.session import session_config, session_options
from ..output.formats import Output, Together
from ..output.open import live_output, output_paths, written
from ..output.options import OutputOptions, output_options
from ..output.progress import AudioProgress, progress
from ..sources.recordings import Recording, find_recordings, read_recording
from .outputs import side_outputs

EPILOG = """\b
Examples:
  xlsr-live transcribe talk.flac
  xlsr-live transcribe talk.flac --pace 1              in real time, like live speech
  xlsr-live transcribe *.wav -f json > all.json
  xlsr-live transcribe recordings/ -f srt -o subtitles/   one file per recording of a folder
  xlsr-live transcribe talk.flac --translate es -o talk.srt    talk.srt and talk.es.srt
  ffmpeg -i talk.mov -f wav - | xlsr-live transcribe -
  xlsr-live transcribe talk.flac --summary --reference talk.txt
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
    help="Speed. 1: real time, live on a terminal; 2: twice as fast; 0: as fast as possible.",
)
@output_options("text", folder=True)
@recognizer_options()
@lid_option
@translator_options
@session_options
def transcribe(files: tuple[Path, ...], pace: float, output: OutputOptions, **settings: Any) -> int:
    """Write the text of recordings (WAV, FLAC, Ogg, MP3) and of folders of recordings; - is standard input.

    The audio passes through the gate and the live recognizer, as from a microphone. --mode offline uses neither and
    makes one pass over each whole file. An unreadable file does not stop the others, but sets the exit status to 2.
    """
    model, config = take_model_options(settings), session_config(settings)
    if config.translate_to and config.mode == "offline":
        raise click.UsageError("--translate needs utterances: leave --mode offline out")
    listed = [one for file in files for one in find_recordings(file)]
    if output.captions and len(listed) > 1:
        raise click.UsageError("--captions is for one recording; for several: --format vtt --output DIR")
    paths = output_paths(listed, output.form or "text", output.path)
    recordings = [one for file in listed if (one := _check(file))]
    if not recordings:
        return 2
    with needs("server", "recognizing speech here"):
        from .recordings import recognize_live, recognize_offline

    several, failed = len(listed) > 1, len(listed) - len(recordings)
    with ExitStack() as stack:
        others = stack.enter_context(side_outputs(output, config=config, paced=pace == 1, local=True))
        recognizer = stack.enter_context(load_recognizer(model))
        seconds = sum(length for _, length in recordings)
        advance, out = stack.enter_context(progress(0 if pace else seconds, audio=True))
        shared: Output | None = None
        if not paths:
            common = live_output(replace(output, path=None), default="text", live=pace > 0, several=several, out=out)
            shared = stack.enter_context(common)
        for recording, _ in recordings:
            with nullcontext(shared) if shared else _file(output, paths[recording.path]) as main:
                shown = Together([main, *others, AudioProgress(advance)])
                shown.begin(recording.name)
                try:
                    if config.mode == "offline":
                        recognize_offline(recognizer, recording, config, shown)
                    elif status := asyncio.run(recognize_live(recognizer, recording, config, pace, shown)):
                        return status
                except XlsrLiveError as error:
                    complain(str(error) if isinstance(error, AudioError) else f"{recording.name}: {error}")
                    failed += 1
    return 2 if failed else 0


def _file(output: OutputOptions, path: Path) -> AbstractContextManager[Output]:
    return written(output.form or "text", path, output)


def _check(file: Path) -> tuple[Recording, float] | None:
    """A recording and its length in seconds. If it is unreadable, print a message and return None."""
    from ...streaming.audio.files import open_audio

    try:
        recording = read_recording(file)
        return recording, open_audio(recording.source).seconds
    except AudioError as error:
        complain(str(error))
        return None
