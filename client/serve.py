"""`xlsr-live serve`: the server."""

from __future__ import annotations

from pathlib import Path

import click

from .local import load_recognizer, needs
from .options import TOKEN_VARIABLE, device_option, lm_option, model_options, read_token, token_option

EPILOG = f"""\b
Examples:
  xlsr-live serve
  xlsr-live serve --model facebook/wav2vec2-large-960h-lv60-self --device cuda
  {TOKEN_VARIABLE}=... xlsr-live serve --host 0.0.0.0
Then, in another terminal:
  xlsr-live stream talk.wav
"""


@click.command(epilog=EPILOG, short_help="A websocket server for other programs.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8765, show_default=True, help="0: any free port.")
@click.option(
    "--max-sessions", type=click.IntRange(min=1), default=32, show_default=True, metavar="N", help="More are refused."
)
@click.option("--vosk-port", type=click.IntRange(0, 65_535), help="Another port, for clients of Vosk's protocol.")
@click.option("--vosk-rate", type=int, default=8_000, show_default=True, metavar="HZ", help="If they name none.")
@click.option("--wyoming-port", type=click.IntRange(0, 65_535), help="TCP port for Wyoming (Home Assistant); no token.")
@click.option("--wyoming-open", is_flag=True, help="Serve it to other machines although there is a token.")
@model_options
@lm_option
@click.option("--lm-partials", is_flag=True, help="Let clients have it in partials; that costs much time.")
@device_option("--device")
@token_option
def serve(
    host: str,
    port: int,
    max_sessions: int,
    vosk_port: int | None,
    vosk_rate: int,
    wyoming_port: int | None,
    wyoming_open: bool,
    model: str,
    revision: str | None,
    language: str | None,
    dtype: str,
    threads: int | None,
    lm: str | None,
    lm_partials: bool,
    compute: str,
    token_file: Path | None,
) -> None:
    """Serve live recognition over websockets (docs/protocol.md). Ctrl-C finishes what is being said, then stops.

    With a token (--token-file, or the environment) only clients that send it are let in.
    """
    with needs("server", "the server"):
        from ..server.run import serve as run
        from ..server.settings import ServerSettings

    settings = ServerSettings(
        host=host,
        port=port,
        max_sessions=max_sessions,
        token=read_token(token_file),
        lm_partials=lm_partials,
        vosk_port=vosk_port,
        vosk_rate=vosk_rate,
        wyoming_port=wyoming_port,
        wyoming_open=wyoming_open,
    )
    run(
        settings,
        lambda: load_recognizer(
            model, revision=revision, language=language, device=compute, dtype=dtype, threads=threads, lm=lm
        ),
    )
