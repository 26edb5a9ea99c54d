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

from ...streaming.captions.cues import LINE_CHARS, Cue, CueMaker
from ...streaming.captions.translated import TranslatedCues
from ...streaming.protocol.events import Event, SessionStarted
from ..output.formats import Cued, JsonLines, Output, Srt, Vtt
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

    def show(self, event: Event) -> None:
        if isinstance(event, SessionStarted):
            self.begun = time.time()
        super().show(event)

    def cue(self, cue: Cue) -> None:
        if self.delivery:
            self.delivery.put(cue)


@contextmanager
def caption_output(target: str, *, early: bool, paced: bool = True) -> Generator[Output]:
    """The output for `target`; `LANGUAGE=TARGET` has the translations into that language. `early`: finals append, so
    committed text can be captioned before the final.

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
            obs_maker = maker(obs.LINE_CHARS)
            output = _to_obs(target, obs_maker, stack) if target != "youtube" else _to_youtube(maker(), stack)
        else:
            output = _file_output(target, maker(), language, paced, stack)
        output.quiet = True
        yield output


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
    output.delivery = stack.enter_context(Delivery(f"OBS at {host}:{port}", client.send, limit=1))
    return output


def _to_youtube(maker: Maker, stack: ExitStack) -> Output:
    if not (url := os.environ.get(youtube.URL_VARIABLE)):
        raise click.UsageError(f"--captions youtube: put the stream's caption address into {youtube.URL_VARIABLE}")
    output = DeliveredCues(maker)
    client = youtube.YouTubeClient(url, lambda: output.begun)
    output.delivery = stack.enter_context(Delivery("YouTube", client.send, limit=YOUTUBE_LIMIT))
    return output


def _file_output(target: str, maker: Maker, language: str | None, paced: bool, stack: ExitStack) -> Output:
    path = Path(target)
    match path.suffix.lower():
        case ".vtt":
            return Vtt(stack.enter_context(ReplacedFile(path)), maker=maker)
        case ".srt":
            return Srt(stack.enter_context(ReplacedFile(path)), maker=maker)
        case ".txt":
            file = stack.enter_context(ReplacedFile(path))
            return stack.enter_context(RollUp(file, hold_s=HOLD_S if paced else None, language=language))
        case ".jsonl":
            return JsonLines(stack.enter_context(AppendedFile(path)))
        case _ if target.startswith(("http://", "https://")):
            raise click.UsageError(  # do not print the target: it is secret
                f"a caption address holds the key of its stream: put it into {youtube.URL_VARIABLE} and use "
                "--captions youtube"
            )
        case _:
            raise click.UsageError(
                f"--captions {target}: a file ending in {', '.join(FILES)}; or obs://HOST:PORT; or youtube"
            )
