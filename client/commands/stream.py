"""`xlsr-live stream`: sends a file or a pipe to a server."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from stat import S_ISREG
from typing import Any, cast

import click

from ...streaming.config import AudioFormat, Encoding
from ..console import printable
from ..options.address import SERVER_URL, urls_option
from ..options.server import audio_options, read_token, refuse, token_option
from ..options.session import session_config, session_options
from ..output.formats import Together
from ..output.open import live_output
from ..output.options import OutputOptions, output_options
from ..pump import pump
from ..remote.sharing import announce_link, share_option
from ..sources.sources import file_blocks, paced
from .outputs import side_outputs

EPILOG = """\b
Examples:
  xlsr-live stream talk.flac
  xlsr-live stream talk.wav --pace 0 -o talk.srt
  xlsr-live stream talk.wav --url https://speech.example.org --hangover-ms 900
  arecord -q -f S16_LE -r 16000 -c 1 | xlsr-live stream -
  ffmpeg -loglevel error -i http://radio.example.org/live -f s16le -ac 1 -ar 16000 - | xlsr-live stream -
"""


@click.command(epilog=EPILOG, short_help="A recording or a pipe through a server.")
@click.argument("file", metavar="FILE|-")
@urls_option("The server.", SERVER_URL)
@click.option(
    "--pace",
    type=click.FloatRange(min=0),
    metavar="X",
    help="Speed. 1: real time; 0: as fast as possible. [default: 1 for a file, 0 for a pipe]",
)
@output_options("live text on a terminal, else jsonl")
@audio_options
@token_option
@share_option
@session_options
def stream(
    file: str,
    url: list[str],
    pace: float | None,
    output: OutputOptions,
    encoding: str,
    sample_rate: int,
    channels: int,
    token_file: Path | None,
    share: bool,
    **settings: Any,
) -> int:
    """Send a recording, or audio on standard input (-), to a server and show the text.

    A recording is sent as 16-bit audio at its own rate and channels. Standard input may be a WAV, FLAC, Ogg or MP3
    stream; --encoding, --sample-rate and --channels give the format of raw audio.
    """
    from ...streaming.audio.files import open_audio
    from ..remote.websocket import connect
    from ..sources.pipes import open_pipe

    config, token = session_config(settings), read_token(token_file)
    piped = file == "-" or (Path(file).exists() and not Path(file).is_file() and not Path(file).is_dir())
    if not piped:
        refuse(("encoding", "sample_rate", "channels"), "is for raw audio on standard input (-)")
    rate = (0.0 if piped else 1.0) if pace is None else pace

    async def run() -> int:
        if piped:
            raw = AudioFormat(encoding=cast(Encoding, encoding), sample_rate=sample_rate, channels=channels)
            audio, blocks = await open_pipe(sys.stdin.fileno() if file == "-" else os.open(file, os.O_RDONLY), raw)
        else:
            recorded = open_audio(Path(file))
            audio = AudioFormat(sample_rate=recorded.sample_rate, channels=recorded.channels)
            blocks = file_blocks(recorded)
        redirected = file == "-" and S_ISREG(os.fstat(sys.stdin.fileno()).st_mode)
        live = rate == 1 or (piped and not redirected)  # audio on a pipe arrives in real time
        with side_outputs(output, config=config, paced=live, local=False) as others, live_output(output) as main:
            shown = Together([main, *others])
            shown.begin(printable(file))
            async with connect(url, config=config, audio=audio, token=token, share=share) as session:
                return await pump(session, paced(blocks, audio, rate), announce_link(session, shown.show))

    return asyncio.run(run())
