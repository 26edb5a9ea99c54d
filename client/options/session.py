"""Session settings as options, generated from `SessionConfig`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

import click
import msgspec

from ...streaming.commands.grammar import parse_grammar
from ...streaming.config import SessionConfig
from ...streaming.errors import ConfigError, GrammarError
from ...streaming.textfile import read_text
from .model import language_option

F = TypeVar("F", bound=Callable[..., Any])

HELP: Final = {
    "allowed_languages": "With --language auto: two to ten of them.",
    "language_enter": "Probability at which an utterance's language is certain.",
    "language_leave": "The same for another language than before.",
    "language_floor": "A less probable language is shown as und.",
    "language_least_ms": "Speech before the language can be certain.",
    "language_hold_ms": "How long the probability must stay high.",
    "language_wait_ms": "The most speech that waits for a certain language.",
    "vad": "Speech detector. none: the whole input is speech.",
    "vad_threshold": "Speech probability that opens the gate.",
    "pre_roll_ms": "Audio kept from before the first speech.",
    "post_roll_ms": "Audio kept after the last speech.",
    "min_speech_ms": "Shorter speech does not open the gate.",
    "hangover_ms": "Silence that ends an utterance.",
    "mode": "cached reuses past work. offline: no partials, one pass per utterance (transcribe: per file).",
    "hop_ms": "New audio in each live step.",
    "max_hop_ms": "Longest hop when the recognizer is overloaded.",
    "lookahead_ms": "Audio after a word before the word is committed.",
    "left_context_ms": "Earlier audio that a live step uses.",
    "max_utterance_ms": "Longer speech is cut at its best pause.",
    "trailing_blank_ms": "An utterance ends after this time without a new word. 0: never.",
    "finals": "append: a final never revises committed text.",
    "hold_back_ms": "Audio after the newest word before the word is shown.",
    "update_ms": "Least audio between two partials.",
    "partials": "Text during an utterance.",
    "hotwords": "A phrase to prefer where it nearly fits. May be repeated.",
    "lm_for": "Where a language model is used. auto: in partials with the packaged model.",
    "nbest": "Hypotheses of each final (jsonl), with a language model.",
    "grammar": "Voice commands; jsonl prints each as it is recognized (docs/commands.md).",
    "command_score": "Least score of a command.",
    "command_word_score": "Least score of each word of a command.",
    "command_alternatives": "Alternatives of each command.",
    "wake": "Commands count only after this phrase.",
    "wake_score": "Least score of the wake phrase.",
    "wake_ms": "Time after the wake phrase in which a command may start.",
}


def session_options(command: F, *, leave: Collection[str] = ()) -> F:
    """Add every setting of `SessionConfig` to `command`, except those to `leave`: it has its own."""
    for field in reversed(msgspec.structs.fields(SessionConfig)):
        if field.name not in leave:
            command = _option(field)(command)
    return command


def session_config(options: dict[str, Any]) -> SessionConfig:
    """Take the session's settings out of a command's options. Raises `ConfigError`."""
    names = {field.name for field in msgspec.structs.fields(SessionConfig)}
    given = {name: options.pop(name) for name in names & options.keys()}
    if given.get("grammar"):
        given["grammar"] = _read_grammar(given["grammar"])
    try:
        return SessionConfig(**{name: value for name, value in given.items() if value is not None})
    except TypeError as error:
        raise ConfigError(str(error)) from error


def _option(field: msgspec.structs.FieldInfo) -> Callable[[F], F]:
    text = HELP.get(field.name, "")
    if field.name == "grammar":
        return click.option("--grammar", type=click.Path(path_type=Path), metavar="FILE", help=text)
    if field.name == "language":
        return language_option
    if field.name == "allowed_languages":
        return click.option("--allowed-language", "allowed_languages", multiple=True, metavar="LANGUAGE", help=text)
    if field.name == "hotwords":
        return click.option("--hotword", "hotwords", multiple=True, metavar="PHRASE[:BOOST]", help=text)
    flag = "--" + field.name.replace("_", "-")
    if field.type is bool:
        flag = f"{flag}/--no-{flag[2:]}"
    help = f"{text} [default: {_shown(field.default)}]".lstrip()
    unit = "MS" if field.name.endswith("_ms") else None
    return click.option(flag, field.name, type=_type(field), metavar=unit, default=None, help=help)


def _read_grammar(path: Path) -> str:
    """Raises `ConfigError` for text that is no grammar in any vocabulary."""
    text = read_text(path, "the grammar")
    try:
        parse_grammar(text)
    except GrammarError as error:
        raise ConfigError(f"{path}, {error}") from error
    return text


def _type(field: msgspec.structs.FieldInfo) -> Any:
    choices = [each for each in (field.type, *get_args(field.type)) if get_origin(each) is Literal]
    return click.Choice(get_args(choices[0])) if choices else field.type


def _shown(default: Any) -> str:
    if default is None:
        return "what suits the model"
    if default == "":
        return "none"
    return ("yes" if default else "no") if isinstance(default, bool) else str(default)
