"""Options of a session on a server: URL, token, format of raw audio."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

import click
from click.core import ParameterSource

from ...streaming.config import Encoding
from ...streaming.errors import ConfigError
from ...streaming.textfile import read_text
from .combined import combined
from .model import NAMES as MODEL_NAMES

F = TypeVar("F", bound=Callable[..., Any])

TOKEN_VARIABLE: Final = "XLSR_LIVE_TOKEN"


def refuse(names: Collection[str], why: str) -> None:
    """Raise `UsageError` if the command line sets one of these options: it would have no effect."""
    context = click.get_current_context()
    for option in context.command.params:
        if option.name in names and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} {why}")


def check_place(url: object) -> None:
    """Raise `UsageError` for options without effect: of a local model with `url`, of a server without."""
    if url:
        refuse(MODEL_NAMES, "is for a model in this process; the server at --url has its own")
    else:
        refuse(("token_file", "share"), "needs a server: --url")


# The format of raw audio on standard input.
audio_options = combined(
    click.option(
        "--encoding",
        type=click.Choice(get_args(Encoding)),
        default="pcm_s16le",
        show_default=True,
        help="Encoding of raw audio on standard input (-).",
    ),
    click.option(
        "--sample-rate",
        type=int,
        default=16_000,
        show_default=True,
        metavar="HZ",
        help="Sample rate of raw audio.",
    ),
    click.option("--channels", type=int, default=1, show_default=True, help="Channels of raw audio, interleaved."),
)


def token_option(command: F) -> F:
    """--token-file. Process lists would show a token on the command line."""
    return click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help=f"File with the access token. [default: the variable {TOKEN_VARIABLE}]",
    )(command)


def read_token(path: Path | None) -> str | None:
    """The access token from the file or the environment. Raises `ConfigError`."""
    token = (os.environ.get(TOKEN_VARIABLE, "") if path is None else read_text(path, "the token file")).strip()
    if not (token.isascii() and token.isprintable()):  # as servers require
        raise ConfigError(f"{path or TOKEN_VARIABLE}: the token must be one line of printable ASCII")
    return token or None
