"""The command line's options: those of a session made from `SessionConfig`, so that there is one list of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

import click
import msgspec
from click.core import ParameterSource

from ...streaming.commands.grammar import parse_grammar
from ...streaming.config import Dtype, Encoding, SessionConfig
from ...streaming.errors import ConfigError, GrammarError

F = TypeVar("F", bound=Callable[..., Any])

SERVER_URL: Final = "ws://127.0.0.1:8765/v1/stream"
TOKEN_VARIABLE: Final = "XLSR_LIVE_TOKEN"
LOADING: Final = ("model", "revision", "language", "dtype", "threads", "calibration", "lm", "compute")

HELP: Final = {
    "vad": "What finds speech; none: the whole input is speech.",
    "vad_threshold": "Speech probability that opens the gate.",
    "pre_roll_ms": "Audio kept from before the first speech.",
    "post_roll_ms": "Audio kept after the last speech.",
    "min_speech_ms": "Shorter speech does not open the gate.",
    "hangover_ms": "Silence that ends an utterance.",
    "mode": "cached reuses past work; offline: no partials, one pass per utterance (transcribe: per file).",
    "hop_ms": "New audio in each live step.",
    "max_hop_ms": "What it may be widened to under too much load.",
    "lookahead_ms": "Audio heard after a word before it is committed.",
    "left_context_ms": "Audio that a live step hears again.",
    "max_utterance_ms": "Longer speech is cut at its best pause.",
    "trailing_blank_ms": "After words, this long without any ends an utterance; 0: never.",
    "finals": "append: a final never revises committed text.",
    "hold_back_ms": "Audio that must follow the newest word before it is shown.",
    "update_ms": "Least audio between two partials.",
    "partials": "Text while it is spoken.",
    "hotwords": "A phrase to be written where it nearly was; may be repeated.",
    "lm_for": "What a language model takes part in.",
    "nbest": "Hypotheses that a final tells (jsonl), with a language model.",
    "grammar": "Voice commands, which jsonl tells as they are said (docs/commands.md).",
    "command_score": "Least score of a command.",
    "command_word_score": "Least score of each of its words.",
    "command_alternatives": "Others that a command might have been.",
    "wake": "Commands count only after this phrase.",
    "wake_score": "Least score of it.",
    "wake_ms": "So long after it a command may begin that is said by itself.",
}


def session_options(command: F, *, leave: Collection[str] = ()) -> F:
    """Give `command` every setting of `SessionConfig` as an option, collected in its parameter `settings`.

    Those to `leave` it has itself.
    """
    for field in reversed(msgspec.structs.fields(SessionConfig)):
        if field.name in leave:
            continue
        if field.name == "grammar":
            path = click.Path(path_type=Path)
            command = click.option("--grammar", type=path, metavar="FILE", help=HELP["grammar"])(command)
            continue
        if field.name == "hotwords":
            option = click.option(
                "--hotword", "hotwords", multiple=True, metavar="PHRASE[:BOOST]", help=HELP["hotwords"]
            )
            command = option(command)
            continue
        flag = "--" + field.name.replace("_", "-")
        if field.type is bool:
            flag = f"{flag}/--no-{flag[2:]}"
        help = f"{HELP.get(field.name, '')} [default: {_shown(field.default)}]".lstrip()
        unit = "MS" if field.name.endswith("_ms") else None
        command = click.option(flag, field.name, type=_type(field), metavar=unit, default=None, help=help)(command)
    return command


def session_config(options: dict[str, Any]) -> SessionConfig:
    """Take the settings of the session out of a command's options. Raises `ConfigError`."""
    names = {field.name for field in msgspec.structs.fields(SessionConfig)}
    given = {name: options.pop(name) for name in names & options.keys()}
    if given.get("grammar"):
        given["grammar"] = _read_grammar(given["grammar"])
    try:
        return SessionConfig(**{name: value for name, value in given.items() if value is not None})
    except TypeError as error:
        raise ConfigError(str(error)) from error


def _read_grammar(path: Path) -> str:
    """Raises `ConfigError` for what is no grammar in any vocabulary."""
    try:
        text = path.read_text(encoding="utf-8")
        parse_grammar(text)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except GrammarError as error:
        raise ConfigError(f"{path}, {error}") from error
    return text


def loading_options(command: F) -> F:
    """--revision, --language, --dtype, --threads, --calibration: how to load a model."""
    command = click.option(
        "--calibration",
        type=click.Path(path_type=Path),
        metavar="DIR_OR_FILE",
        help="Of confidences, as `calibrate` writes it. [default: the model's own, if it has one]",
    )(command)
    command = click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads of the model.")(
        command
    )
    command = click.option(
        "--dtype",
        type=click.Choice(get_args(Dtype)),
        default="auto",
        show_default=True,
        help="Number format; int8 is the fastest for large models, on processors that have it.",
    )(command)
    command = click.option(
        "--language", metavar="CODE", help="For models with a vocabulary for each language (MMS): deu, fra, ..."
    )(command)
    return click.option("--revision", metavar="REV", help="Commit, tag or branch of a Hugging Face model.")(command)


def model_options(command: F) -> F:
    """--model and the options of `loading_options`: what to load, and how."""
    return click.option(
        "--model",
        default="bundled",
        show_default=True,
        metavar="NAME_OR_DIR",
        help="The packaged model (English, small), a Hugging Face name or a folder with a Wav2Vec2ForCTC checkpoint.",
    )(loading_options(command))


def lm_option(default: str | None = None) -> Callable[[F], F]:
    """--lm: the language model; None is the model's own."""
    shown = default or "the model's own, if it has one"
    return click.option(
        "--lm",
        default=default,
        metavar="PATH|bundled|none",
        help=f"An n-gram (ARPA or KenLM binary), a folder with one, or the packaged English one. [default: {shown}]",
    )


def device_option(flag: str) -> Callable[[F], F]:
    """Where the model runs, as `flag`: `mic` needs --device for microphones."""
    return click.option(
        flag,
        "compute",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help="Where the model runs.",
    )


def loading(options: dict[str, Any], *, threads: int | None = None) -> dict[str, Any]:
    """Take what `load_recognizer` is to be told out of a command's options; `threads` if none are given."""
    given = {name: options.pop(name) for name in LOADING if name in options}
    device = given.pop("compute")
    return {**given, "device": device, "threads": given["threads"] or threads}


def refuse(names: Collection[str], why: str) -> None:
    """Raise `UsageError` if one of these options stands in the command line: it would change nothing there."""
    context = click.get_current_context()
    for option in context.command.params:
        if option.name in names and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} {why}")


def check_place(url: str | None) -> None:
    """Raise `UsageError` for options that are for the other place: the server at `url`, or None, this process."""
    if url:
        refuse(LOADING, "is for recognizing here; the server at --url has its own")
    else:
        refuse(("token_file", "share"), "needs a server: --url")


def audio_options(command: F) -> F:
    """--encoding, --sample-rate, --channels: how raw audio on standard input is coded."""
    for option in (
        click.option("--channels", type=int, default=1, show_default=True, help="Of raw audio, interleaved."),
        click.option("--sample-rate", type=int, default=16_000, show_default=True, metavar="HZ", help="Of raw audio."),
        click.option(
            "--encoding",
            type=click.Choice(get_args(Encoding)),
            default="pcm_s16le",
            show_default=True,
            help="Of raw audio on standard input (-).",
        ),
    ):
        command = option(command)
    return command


def token_option(command: F) -> F:
    """--token-file. A token on the command line would stand in every process list."""
    return click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help=f"File with the access token. [default: the variable {TOKEN_VARIABLE}]",
    )(command)


def read_token(path: Path | None) -> str | None:
    """The access token from the file or the environment. Raises `ConfigError`."""
    if path is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the token file {path}: {error}") from error


def _type(field: msgspec.structs.FieldInfo) -> Any:
    choices = [each for each in (field.type, *get_args(field.type)) if get_origin(each) is Literal]
    return click.Choice(get_args(choices[0])) if choices else field.type


def _shown(default: Any) -> str:
    if default is None:
        return "what suits the model"
    if default == "":
        return "none"
    return ("yes" if default else "no") if isinstance(default, bool) else str(default)
