"""Options of a model in this process, and loading it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

import click

from ...streaming.config import AUTO, DEVICE, Dtype, ModelOptions
from ..console import needs, waiting
from ..stages import Stages
from .combined import combined

if TYPE_CHECKING:
    from ...streaming.recognizer import Recognizer

F = TypeVar("F", bound=Callable[..., Any])

DEVICES: Final = ("auto", "cpu", "cuda")
TRANSLATION: Final = ("translators", "translate_from", "translate_beams", "translate_max_lag")
NAMES: Final = (
    "model",
    "revision",
    "dtype",
    "threads",
    "calibration",
    "punctuation_model",
    "lm",
    "lid",
    "compute",
    *TRANSLATION,
)


# How a model is loaded.
loading_options = combined(
    click.option("--revision", metavar="REV", help="Commit, tag or branch of a Hugging Face model."),
    click.option(
        "--dtype",
        type=click.Choice(get_args(Dtype)),
        default="auto",
        show_default=True,
        help="Number format. auto: float32 on a CPU, bfloat16 on a GPU.",
    ),
    click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads. [default: all cores]"),
    click.option(
        "--calibration",
        type=click.Path(path_type=Path),
        metavar="DIR_OR_FILE",
        help="Calibration of confidences, from `calibrate`. [default: the model's own, if it has one]",
    ),
)

# Which model, and how it is loaded.
model_options = combined(
    click.option(
        "--model",
        default="bundled",
        show_default=True,
        metavar="NAME_OR_DIR",
        help="The packaged model (English, small), a short name (see `models`), a Hugging Face name or a folder.",
    ),
    loading_options,
)


def language_option(command: F) -> F:
    """--language, of commands without session options, which have it too."""
    return click.option(
        "--language",
        metavar="LANGUAGE",
        help="Language of the speech, for a model with several (see `xlsr-live languages`): de, German, ...; auto: "
        "identify it in each utterance. [default: the model's, if it has one]",
    )(command)


def lid_option(command: F) -> F:
    """--lid: the identification model, for --language auto."""
    return click.option(
        "--lid",
        metavar="NAME_OR_DIR",
        help="With --language auto: a checkpoint that identifies the language, such as facebook/mms-lid-126. [default: "
        "the model's own confidence in each language]",
    )(command)


# The translators of finals (--translate).
translator_options = combined(
    click.option(
        "--translator",
        "translators",
        multiple=True,
        metavar="NAME_OR_DIR",
        help="apertium, or a checkpoint (docs/translation.md). May be repeated. [default: apertium]",
    ),
    click.option(
        "--translate-from", metavar="LANGUAGE", help="Language of the speech, if the checkpoint does not state it."
    ),
    click.option(
        "--translate-beams",
        type=click.IntRange(1, 20),
        default=ModelOptions().translate_beams,
        show_default=True,
        metavar="N",
        help="Beams of a neural translator; 1: greedy.",
    ),
    click.option(
        "--translate-max-lag",
        type=click.FloatRange(min=0.1),
        default=ModelOptions().translate_max_lag,
        show_default=True,
        metavar="S",
        help="Skip a translation that needs more seconds after its final.",
    ),
)


def punctuation_option(command: F) -> F:
    """--punctuation-model: of --punctuation."""
    text = "For --punctuation: a model (docs/captions.md). [default: full stops at pauses]"
    return click.option("--punctuation-model", metavar="NAME_OR_DIR", help=text)(command)


def lm_option(default: str | None = None) -> Callable[[F], F]:
    """--lm: the language model; default None is the model's own."""
    shown = default or "the model's own, if it has one"
    return click.option(
        "--lm",
        default=default,
        metavar="PATH|bundled|none",
        help=f"An n-gram (ARPA or KenLM binary), a folder with one, or the packaged English one. [default: {shown}]",
    )


def _check_device(context: click.Context, option: click.Parameter, name: str) -> str:
    """The name of a device. A microphone gets a hint: --device of `mic` named one in version 0.2."""
    if re.fullmatch(DEVICE, name):
        return name
    hint = f"; a microphone is --microphone {name}" if "microphone" in {p.name for p in context.command.params} else ""
    raise click.BadParameter(f"{name!r} is not one of {', '.join(DEVICES)}{hint}", context, option)


def _complete_device(context: click.Context, option: click.Parameter, begun: str) -> list[str]:
    return [name for name in DEVICES if name.startswith(begun)]


def microphone_option(command: F) -> F:
    """--microphone: an input device."""
    text = "Which microphone (see `devices`). [default: the system's]"
    return click.option("--microphone", metavar="NAME|NUMBER", help=text)(command)


def device_option(*flags: str) -> Callable[[F], F]:
    """The device of the model."""
    return click.option(
        *flags,
        "compute",
        callback=_check_device,
        shell_complete=_complete_device,
        metavar="|".join(DEVICES),
        default="auto",
        show_default=True,
        help="Device of the model; cuda:1 and so on for other GPUs than the first.",
    )


def recognizer_options(lm: str | None = None, *, device: Sequence[str] = ("--device",)) -> Callable[[F], F]:
    """--model and the options of loading it, --lm with this default, and the device with these flags."""
    return combined(model_options, lm_option(lm), punctuation_option, device_option(*device))


def take_model_options(options: dict[str, Any], *, threads: int | None = None) -> ModelOptions:
    """Remove the options of this module from a command's options; `threads` is the default of --threads.

    A command without --lm uses no language model.
    """
    given: dict[str, Any] = {"lm": "none"} | {name: options.pop(name) for name in NAMES if name in options}
    language = options.get("language")  # of the session, too, if the command has its options
    if "allowed_languages" not in options:
        options.pop("language", None)
    given["language"] = None if language == AUTO else language
    if given.get("lid") and language != AUTO:
        raise click.UsageError("--lid is for --language auto")
    given["device"] = given.pop("compute")
    given["threads"] = given["threads"] or threads
    if options.get("translate_to") and not given.get("translators"):
        given["translators"] = ("apertium",)
    return ModelOptions(**given)


def load_recognizer(options: ModelOptions) -> Recognizer:
    """Load a model; a terminal shows the stages. Raises `ModelError`, `LanguageModelError` or `MissingPackage`."""
    with (
        needs("server", "recognizing speech here"),
        waiting(f"loading the model ({options.model})") as show,
    ):
        from ...streaming.recognizer import Recognizer

        return Recognizer.from_options(options, report=Stages(show))
