"""Session settings as options, generated from `SessionConfig`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin

import click
import msgspec

from ...streaming.commands.grammar import parse_grammar
from ...streaming.config import SessionConfig
from ...streaming.errors import ConfigError, GrammarError
from ...streaming.textfile import read_text
from .combined import combined
from .model import language_option

F = TypeVar("F", bound=Callable[..., Any])

HELP: Final = {
    "allowed_languages": "With --language auto: a language that may occur. Two to ten.",
    "language_enter": "Least probability of a certain language.",
    "language_leave": "The same, to leave the language of the previous utterance.",
    "language_floor": "Below this probability the event says und (undetermined).",
    "language_least_ms": "Speech before the language can be certain.",
    "language_hold_ms": "Time for which the probability must stay that high.",
    "language_wait_ms": "Partials wait for the language until there is this much speech.",
    "vad": "Voice activity detector. none: all input counts as speech.",
    "vad_threshold": "Speech probability that opens the gate.",
    "pre_roll_ms": "Audio kept before the first speech of an utterance.",
    "post_roll_ms": "Audio kept after the last speech of an utterance.",
    "min_speech_ms": "Shorter speech does not open the gate.",
    "hangover_ms": "Silence that ends an utterance.",
    "endpointing": "adaptive: each pause gets its own hangover, from the text and the pauses so far.",
    "least_hangover_ms": "With --endpointing adaptive: the shortest hangover.",
    "most_hangover_ms": "With --endpointing adaptive: the longest hangover.",
    "mode": "cached: live steps reuse encoder states. window: they encode a whole window. offline: no partials, one "
    "pass per utterance (transcribe: per file).",
    "hop_ms": "New audio in each live step.",
    "max_hop_ms": "Longest hop when the recognizer is overloaded.",
    "lookahead_ms": "Audio needed after a word to commit it; 480, or what the checkpoint was trained for.",
    "left_context_ms": "Earlier audio that a live step uses.",
    "max_utterance_ms": "Longer speech is cut at its best pause.",
    "trailing_blank_ms": "An utterance ends after this time without a new word. 0: never.",
    "finals": "append: a final never revises committed text.",
    "hold_back_ms": "Audio needed after the newest word to show it.",
    "update_ms": "Least audio between two partials.",
    "partials": "Show text during an utterance.",
    "hotwords": "A phrase to prefer over similar words. May be repeated.",
    "lm_for": "Events that use the language model. auto: finals, and partials with the packaged model.",
    "nbest": "Number of hypotheses in each final (jsonl), with a language model.",
    "grammar": "Voice commands; jsonl prints each as it is recognized (docs/commands.md).",
    "command_score": "Least score of a command.",
    "command_word_score": "Least score of each word of a command.",
    "command_alternatives": "Number of alternatives of each command.",
    "wake": "Commands count only after this phrase.",
    "wake_score": "Least score of the wake phrase.",
    "wake_ms": "Time after the wake phrase in which a command may start.",
    "punctuation": "Finals have punctuation and case, as a guess for people (docs/captions.md).",
    "translate_to": "Translate finals into this language (es, fr, German). May be repeated.",
}


def session_options(command: F, *, leave: Collection[str] = ()) -> F:
    """Add every setting of `SessionConfig` to `command`, except those in `leave`, for which it has its own options."""
    fields = msgspec.structs.fields(SessionConfig)
    return combined(*(_option(field) for field in fields if field.name not in leave))(command)


def session_config(options: dict[str, Any]) -> SessionConfig:
    """Remove the session's settings from a command's options and return them. Raises `ConfigError`."""
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
    if field.name == "translate_to":
        return click.option("--translate", "translate_to", multiple=True, metavar="LANGUAGE", help=text)
    flag = "--" + field.name.replace("_", "-")
    if field.type is bool:
        flag = f"{flag}/--no-{flag[2:]}"
    help = f"{text} [default: {_shown(field.default)}]".lstrip()
    unit = "MS" if field.name.endswith("_ms") else None
    return click.option(flag, field.name, type=_type(field), metavar=unit, default=None, help=help)


def _read_grammar(path: Path) -> str:
    """The text of a grammar. Raises `ConfigError` if it is invalid in every vocabulary."""
    text = read_text(path, "the grammar")
    try:
        parse_grammar(text)
    except GrammarError as error:
        raise ConfigError(f"{path}, {error}") from error
    return text


def _type(field: msgspec.structs.FieldInfo) -> Any:
    plain = get_args(field.type)[0] if get_origin(field.type) in (Union, UnionType) else field.type
    return click.Choice(get_args(plain)) if get_origin(plain) is Literal else plain


def _shown(default: Any) -> str:
    if default is None:
        return "chosen for the model"
    if default == "":
        return "none"
    return ("yes" if default else "no") if isinstance(default, bool) else str(default)
