"""`xlsr-live demo`: sends recorded speech to a real server and shows its live text."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Final as Constant

import click

from ...streaming.captions.case import SentenceCase, in_sentence
from ...streaming.config import AudioFormat, ModelOptions, SessionConfig
from ...streaming.frames import SAMPLE_RATE
from ...streaming.protocol.events import Event, Final, Partial
from ..console import needs
from ..options.model import load_recognizer
from ..output.formats import Output
from ..output.open import live_output
from ..output.options import OutputOptions
from ..output.word_errors import edits
from ..pump import Block, pump
from ..sources.clips import Clip, load_clips
from ..sources.sources import BLOCK_SECONDS, file_blocks, paced

EPILOG = """\b
Examples:
  xlsr-live demo
  xlsr-live demo --pace 0
  xlsr-live demo --translate es            (Debian: apt install apertium-eng-spa)
"""
PAUSE_SECONDS: Constant = 1.0  # between two speakers
NOTHING: Constant = "(nothing)"
NEXT: Constant = """
Try next:
  xlsr-live mic                      say something yourself
  xlsr-live transcribe talk.wav --model facebook/wav2vec2-large-960h-lv60-self
                                     far fewer errors; the first run downloads it (1.2 GB)
  xlsr-live serve                    and xlsr-live stream talk.wav in another terminal
  xlsr-live doctor                   check this installation"""


@click.command(epilog=EPILOG, short_help="Recorded speech through a real server, live; needs nothing.")
@click.option(
    "--pace", type=click.FloatRange(min=0), default=1.0, show_default=True, metavar="X", help="0: no waiting."
)
@click.option(
    "--translate", "languages", multiple=True, metavar="LANGUAGE", help="Translate into this language. May be repeated."
)
@click.option(
    "--translator",
    "translators",
    multiple=True,
    default=("apertium",),
    show_default=True,
    metavar="NAME_OR_DIR",
    help="apertium, or a checkpoint that translates English.",
)
def demo(pace: float, languages: tuple[str, ...], translators: tuple[str, ...]) -> int:
    """Start a server on a free port, send recorded speech to it, and compare its text with the true text.

    Needs no microphone and no network. The packaged model is small: it knows only English and makes errors.
    """
    with needs("server", "the demo"):
        from ...server.run import running_server

    clips = load_clips()
    finals: list[Final] = []
    model = ModelOptions(translators=translators if languages else ())
    config = SessionConfig(translate_to=languages)
    with load_recognizer(model) as recognizer, running_server(recognizer) as server:
        click.echo(f"Server at {server.url}; model {recognizer.info.name} on {recognizer.info.device}.")
        volatile = "Dim words" if sys.stdout.isatty() else "Words in brackets"
        click.echo(f"{len(clips)} recordings in sequence. {volatile} may still change.\n")
        with live_output(OutputOptions(), default="text") as shown:
            status = asyncio.run(_play(server.url, config, clips, pace, shown, finals))
    if status:
        return status
    _compare(clips, finals)
    click.echo(NEXT)
    return 0


async def _play(
    url: str, config: SessionConfig, clips: list[Clip], pace: float, shown: Output, finals: list[Final]
) -> int:
    from ..remote.websocket import connect

    case = SentenceCase()

    def show(event: Event) -> None:
        event = case.receive(event)
        if isinstance(event, Partial) and not sys.stdout.isatty():  # show partials in a log too
            click.echo(f"  ... {event.committed} ({event.volatile})")
        shown.show(event)
        if isinstance(event, Final):
            finals.append(event)

    audio = AudioFormat()
    shown.begin("demo")
    async with connect(url, config=config, audio=audio) as session:
        return await pump(session, paced(_one_after_another(clips), audio, pace), show)


async def _one_after_another(clips: list[Clip]) -> AsyncIterator[Block]:
    from ...streaming.audio.files import open_audio

    pause = bytes(2 * round(BLOCK_SECONDS * SAMPLE_RATE))
    for clip in clips:
        async for block in file_blocks(open_audio(clip.path)):
            yield block
        for _ in range(round(PAUSE_SECONDS / BLOCK_SECONDS)):
            yield pause


def _compare(clips: list[Clip], finals: list[Final]) -> None:
    from ...streaming.audio.files import open_audio

    end = 0.0
    errors = words = 0
    click.echo()
    for clip in clips:
        begin, end = end, end + open_audio(clip.path).seconds + PAUSE_SECONDS
        text = " ".join(final.text for final in finals if begin <= (final.start + final.end) / 2 < end)
        wrong, length = edits(clip.text.split(), text.upper().split())[-1], len(clip.text.split())
        errors, words = errors + wrong, words + length
        click.echo(f"{clip.path.stem:8} spoken      {in_sentence(clip.text) or NOTHING}")
        click.echo(f"{'':8} recognized  {in_sentence(text.upper()) or NOTHING}   ({_rate(wrong, length)})")
    click.echo(
        f"\nTotal: {_rate(errors, words)}. Expect far more errors with voices that are not in its training data."
    )


def _rate(errors: int, words: int) -> str:
    if not words:
        return f"{errors} words inserted"
    return f"{errors} of {words} words wrong, WER {100 * errors / words:.0f} %"
