"""--format, --output and the other options of a command's output."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import click
from click.core import ParameterSource

from ..options.combined import combined
from ..options.defaults import PREFIX, key_of
from .case import Case
from .formats import FORMATS, SUBTITLES
from .names import dated

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class OutputOptions:
    """The values of these options."""

    form: str | None = None
    path: Path | None = None
    captions: tuple[str, ...] = ()
    summary: bool = False
    reference: Path | None = None
    languages: tuple[str, ...] = ()  # of translations
    per_language: bool = False  # subtitles also in a file for each language of the speech
    overwrite: bool = False  # existing files
    case: Case = "model"


def output_options(default: str, folder: bool = False) -> Callable[[F], F]:
    """--format, --output, --captions, --summary and their like, as one argument `output: OutputOptions`.

    `default` describes the default format. With `folder`, --output may be a folder.
    """
    options = _options(default, folder)

    def decorate(command: F) -> F:
        @wraps(command)
        def with_output(
            form: str | None,
            plain: bool,
            path: str | None,
            captions: tuple[str, ...],
            per_language: bool,
            overwrite: bool,
            case: Case,
            summary: bool,
            reference: Path | None,
            **others: Any,
        ) -> Any:
            file = Path(path) if path else None
            form = _chosen(form, plain, file)
            languages = others.get("translate_to") or ()
            if per_language and not (file and form in SUBTITLES) and _precedence("per_language") is Precedence.ARGUMENT:
                raise click.UsageError("--per-language needs subtitles in files: --output FILE.vtt or FILE.srt")
            file = dated(file) if file else None
            summary = summary or reference is not None
            chosen = OutputOptions(form, file, captions, summary, reference, languages, per_language, overwrite, case)
            return command(output=chosen, **others)

        return cast(F, options(with_output))

    return decorate


class Precedence(IntEnum):
    """Where an option's value comes from. A higher one overrides a lower one."""

    FILE = 0
    VARIABLE = 1
    ARGUMENT = 2


def _precedence(name: str) -> Precedence:
    context = click.get_current_context()
    if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
        return Precedence.ARGUMENT
    option = next(option for option in context.command.params if option.name == name)
    return Precedence.VARIABLE if os.environ.get(PREFIX + key_of(option).upper()) else Precedence.FILE


def _chosen(form: str | None, plain: bool, path: Path | None) -> str | None:
    """The format of --format, --plain, or the suffix of --output. Where they disagree, the highest precedence counts.

    Raises `click.UsageError` if they disagree at the same one.
    """
    option = "form"
    if plain:
        if form not in (None, "plain") and _precedence("plain") == _precedence("form"):
            raise click.UsageError(f"use --plain or --format {form}, not both")
        if form is None or _precedence("plain") > _precedence("form"):
            option, form = "plain", "plain"
    by_suffix = form_of(path) if path else None
    if form is None or by_suffix is None or form == by_suffix or (form, by_suffix) == ("plain", "text"):
        return form or by_suffix
    if _precedence(option) == _precedence("path"):
        flag = "--plain" if option == "plain" else "--format"
        raise click.UsageError(f"--output {path} stands for the format {by_suffix}, not {form}: leave {flag} out")
    return form if _precedence(option) > _precedence("path") else by_suffix


def form_of(path: Path) -> str | None:
    """The format that the suffix of a file's name stands for; None for other suffixes."""
    suffix = path.suffix[1:].lower()
    return "text" if suffix == "txt" else suffix if suffix in FORMATS else None


def _options(default: str, folder: bool) -> Callable[[F], F]:
    kinds = click.Choice(list(FORMATS))
    where = "Write to this file"
    where += "; for several recordings, a folder of them, or PATH/, to a folder." if folder else "."
    where += " %Y-%m-%d-%H%M in a name is the time of the start."
    path = click.Path(path_type=Path)
    return combined(
        click.option(
            "--format",
            "-f",
            "form",
            type=kinds,
            help=f"Output format. [default: by the suffix of --output, else {default}]",
        ),
        click.option("--plain", is_flag=True, help="Same as --format plain: lines with times, for logs."),
        click.option("--output", "-o", "path", type=click.Path(), metavar="PATH", help=where),
        click.option(
            "--captions",
            multiple=True,
            metavar="TARGET",
            help="Live captions: FILE.vtt, .srt, .txt, .jsonl; obs://HOST; youtube. es=TARGET: the translation. "
            "May be repeated.",
        ),
        click.option(
            "--per-language",
            is_flag=True,
            help="Subtitles: also a file for each language of the speech (talk.deu.vtt beside talk.vtt).",
        ),
        click.option(
            "--overwrite", is_flag=True, help="Replace existing files. [default: write talk-1.vtt if talk.vtt exists]"
        ),
        click.option(
            "--case",
            type=click.Choice(get_args(Case)),
            default="sentence",
            show_default=True,
            help="sentence: text of a model that writes only capitals is in sentence case. model: text as the model "
            "writes it; jsonl and json always are.",
        ),
        click.option("--summary", is_flag=True, help="At the end: words, latency, speed."),
        click.option("--reference", type=path, metavar="FILE", help="The true text; the summary then has the WER."),
    )
