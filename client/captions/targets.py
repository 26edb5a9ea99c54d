"""`--captions TARGET`: the output for each kind of target."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click

from ...streaming.captions.cues import LINE_CHARS, LINES, Cue, CueMaker
from ...streaming.captions.translated import TranslatedCues
from ...streaming.protocol.events import Event, SessionStarted
from ..console import report_saved
from ..output.case import Case, in_case
from ..output.formats import Cued, JsonLines, Output, Srt, Vtt
from ..output.names import dated, unused
from . import obs, youtube
from .delivery import Delivery
from .files import AppendedFile, ReplacedFile
from .rollup import HOLD_S, RollUp

YOUTUBE_LIMIT: Final = 100  # captions that wait for YouTube; late ones are of use, as each carries its time
NO_OBS: Final = f"--captions: OBS is at an address such as obs://127.0.0.1:{obs.PORT}"
FILES: Final = (".vtt", ".srt", ".txt", ".jsonl")
TRANSLATED: Final = re.compile(r"([A-Za-z]{2,3}(?:-[A-Za-z0-9]+)*)=(.+)")  # a BCP 47 tag before the target

Maker = CueMaker | TranslatedCues


class DeliveredCues(Cued):
    """Cues for a `Delivery`."""

    def __init__(self, maker: Maker) -> None:
        super().__init__(sys.stderr, maker=maker)
        self.begun = 0.0  # when the audio began, in seconds since 1970
        self.delivery: Delivery | None = None
        self._head_start = 0.0

    def head_start(self, seconds: float) -> None:
        self._head_start = seconds

    def show(self, event: Event) -> None:
        if isinstance(event, SessionStarted):
            self.begun, self._head_start = time.time() - self._head_start, 0.0
        super().show(event)

    def cue(self, cue: Cue) -> None:
        if self.delivery:
            self.delivery.put(cue)


@contextmanager
def caption_output(
    target: str, *, early: bool, paced: bool = True, overwrite: bool = False, case: Case = "model"
) -> Generator[Output]:
    """The output for `target`; `LANGUAGE=TARGET` has the translations into that language.

    `early`: finals append, so committed text can be captioned before the final. Without `overwrite` an existing file
    keeps its content, and the captions go to a file with another name.

    Raises `click.UsageError` for an unknown target, or one that needs `paced` audio, and `XlsrLiveError` for a file
    that cannot be written.
    """
    translated = TRANSLATED.fullmatch(target)
    language, target = (translated[1], translated[2]) if translated else (None, target)

    def maker(line_chars: int = LINE_CHARS) -> Maker:
        if language is None:
            return CueMaker(early=early, line_chars=line_chars)
        return TranslatedCues(language, early=early, line_chars=line_chars)

    with ExitStack() as stack:
        if target.startswith("obs:") or target == "youtube":
            if not paced:
                raise click.UsageError(f"--captions {target}: live captions need audio in real time: --pace 1")
            if target == "youtube":
                output = _to_youtube(maker(), stack)
            else:
                output = _to_obs(target, maker(obs.LINE_CHARS), stack)
        else:
            output = stack.enter_context(_file_output(Path(target), maker(), language, paced, overwrite))
        output.quiet = True
        yield output if isinstance(output, JsonLines) else in_case(output, case)


def _to_obs(target: str, maker: Maker, stack: ExitStack) -> Output:
    try:
        parts = urlsplit(target)
        host, port = parts.hostname, parts.port or obs.PORT
    except ValueError:
        raise click.UsageError(NO_OBS) from None
    if not host:  # do not print the target: it may hold a password
        raise click.UsageError(NO_OBS)
    if parts.username or parts.password:
        raise click.UsageError(f"put the password of OBS into the variable {obs.PASSWORD_VARIABLE}")
    client = obs.ObsClient(host, port, os.environ.get(obs.PASSWORD_VARIABLE, ""))
    stack.callback(client.close)
    output = DeliveredCues(maker)
    output.delivery = stack.enter_context(
        Delivery(f"OBS at {host}:{port}", client.send, limit=1, contact=client.contact)
    )
    return output


def _to_youtube(maker: Maker, stack: ExitStack) -> Output:
    if not (url := os.environ.get(youtube.URL_VARIABLE)):
        raise click.UsageError(f"--captions youtube: put the stream's caption address into {youtube.URL_VARIABLE}")
    output = DeliveredCues(maker)
    client = youtube.YouTubeClient(url, lambda: output.begun)
    output.delivery = stack.enter_context(Delivery("YouTube", client.send, limit=YOUTUBE_LIMIT, contact=client.contact))
    return output


@contextmanager
def _file_output(path: Path, maker: Maker, language: str | None, paced: bool, overwrite: bool) -> Generator[Output]:
    if str(path).startswith(("http:/", "https:/")):
        raise click.UsageError(  # do not print the target: it is secret
            f"a caption address holds the key of its stream: put it into {youtube.URL_VARIABLE} and use "
            "--captions youtube"
        )
    if (kind := path.suffix.lower()) not in FILES:
        raise click.UsageError(
            f"--captions {path}: a file ending in {', '.join(FILES)}; or obs://HOST:PORT; or youtube"
        )
    # A .txt has the last two lines, which other programs read under a fixed name: those of a killed run may go.
    path = unused(dated(path), overwrite=overwrite, lines=LINES if kind == ".txt" else 0)
    if kind == ".jsonl":
        with AppendedFile(path) as file:
            yield (output := JsonLines(file))
    elif kind == ".txt":
        with ReplacedFile(path) as file, RollUp(file, hold_s=HOLD_S if paced else None, language=language) as output:
            yield output
        return  # the file is empty now
    else:
        with ReplacedFile(path) as file, (Vtt if kind == ".vtt" else Srt)(file, maker=maker) as output:
            yield output
    if file.complete:
        report_saved(path, output.amount)
