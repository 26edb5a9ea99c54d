"""`--captions TARGET`: where captions go while they are spoken."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click

from ...streaming.captions.cues import Cue, CueMaker
from ...streaming.protocol.events import Event, SessionStarted
from ..output.formats import Cued, JsonLines, Output, Srt, Vtt
from . import obs, youtube
from .delivery import Delivery
from .files import Appended, Replaced
from .rollup import HOLD_S, RollUp

KEPT: Final = 100  # captions that wait for YouTube, which knows their times
NO_OBS: Final = f"--captions: OBS is at an address such as obs://127.0.0.1:{obs.PORT}"
FILES: Final = (".vtt", ".srt", ".txt", ".jsonl")


class Delivered(Cued):
    """Cues for another program."""

    def __init__(self, maker: CueMaker) -> None:
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
    """What writes captions to `target`. `early`: finals append, so what is committed can be captioned before them.

    Raises `click.UsageError` for what is no target, or none for audio that is not `paced`, and `XlsrLiveError` for a
    file that cannot be written.
    """
    with ExitStack() as stack:
        if target.startswith("obs:") or target == "youtube":
            if not paced:
                raise click.UsageError(f"--captions {target}: a stream wants its captions as it is spoken: --pace 1")
            output = _to_obs(target, early, stack) if target != "youtube" else _to_youtube(early, stack)
        else:
            output = _file_output(target, CueMaker(early=early), paced, stack)
        output.quiet = True
        yield output


def _to_obs(target: str, early: bool, stack: ExitStack) -> Output:
    try:
        parts = urlsplit(target)
        host, port = parts.hostname, parts.port or obs.PORT
    except ValueError:
        raise click.UsageError(NO_OBS) from None
    if not host:  # what stands there may be a password
        raise click.UsageError(NO_OBS)
    if parts.username or parts.password:
        raise click.UsageError(f"the password of OBS belongs into the variable {obs.PASSWORD_VARIABLE}")
    there = obs.Obs(host, port, os.environ.get(obs.PASSWORD_VARIABLE, ""))
    stack.callback(there.close)
    output = Delivered(CueMaker(early=early, line_chars=obs.LINE_CHARS))
    output.delivery = stack.enter_context(Delivery(f"OBS at {host}:{port}", there.send, kept=1))
    return output


def _to_youtube(early: bool, stack: ExitStack) -> Output:
    if not (url := os.environ.get(youtube.URL_VARIABLE)):
        raise click.UsageError(f"--captions youtube: the stream's caption address belongs into {youtube.URL_VARIABLE}")
    output = Delivered(CueMaker(early=early))
    there = youtube.YouTube(url, lambda: output.begun)
    output.delivery = stack.enter_context(Delivery("YouTube", there.send, kept=KEPT))
    return output


def _file_output(target: str, maker: CueMaker, paced: bool, stack: ExitStack) -> Output:
    path = Path(target)
    match path.suffix.lower():
        case ".vtt":
            return Vtt(stack.enter_context(Replaced(path)), maker=maker)
        case ".srt":
            return Srt(stack.enter_context(Replaced(path)), maker=maker)
        case ".txt":
            file = stack.enter_context(Replaced(path))
            return stack.enter_context(RollUp(file, hold_s=HOLD_S if paced else None))
        case ".jsonl":
            return JsonLines(stack.enter_context(Appended(path)))
        case _ if target.startswith(("http://", "https://")):
            raise click.UsageError(  # which does not repeat it
                f"a caption address holds the key of its stream: put it into {youtube.URL_VARIABLE} and say "
                "--captions youtube"
            )
        case _:
            raise click.UsageError(
                f"--captions {target}: a file ending in {', '.join(FILES)}; or obs://HOST:PORT; or youtube"
            )
