"""`xlsr-live mic`: live text from the microphone."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager, ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ...streaming.protocol.events import Event, SessionStarted
from ..console import complain
from ..options.address import urls_option
from ..options.model import (
    lid_option,
    load_recognizer,
    microphone_option,
    recognizer_options,
    take_model_options,
    translator_options,
)
from ..options.server import check_place, read_token, token_option
from ..options.session import session_config, session_options
from ..output.about import about_loaded, about_model
from ..output.case import in_case
from ..output.formats import Output, Together
from ..output.open import live_output
from ..output.options import OutputOptions, output_options
from ..output.typing import Typist, typing_program
from ..pump import Block, EndHere, LiveSession, pump
from ..remote.sharing import announce_link, share_option
from ..sources.talk_key import TalkKey, keyboard, push_to_talk
from .devices import list_devices
from .outputs import side_outputs

if TYPE_CHECKING:
    from ..sources.microphone import Microphone

OpenSession = Callable[[], AbstractAsyncContextManager[LiveSession]]
About = Callable[[str], str]  # from the name of the session's model to a line for people

LIVE_SECONDS: Final = 1.0  # of audio that waits: recognition is up to date
LATE_SECONDS: Final = 20.0
SILENT_SECONDS: Final = 3.0  # of zeros before a warning: a real microphone has noise

EPILOG = """\b
Examples:
  xlsr-live mic --list
  xlsr-live mic                                   Ctrl-C ends it
  xlsr-live mic --microphone USB --duration 60 -o minute.srt
  xlsr-live mic --url studio:8765
  xlsr-live mic --push-to-talk                    Space talks, Enter ends an utterance
  xlsr-live mic --type                            dictate into another window
"""


@click.command(epilog=EPILOG, short_help="Live text from the microphone.")
@click.option("--list", "listing", is_flag=True, help="List the microphones and stop.")
@microphone_option
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), metavar="S", help="Stop after S seconds.")
@click.option(
    "--push-to-talk",
    "held",
    is_flag=True,
    help="Record only while you hold Space, or between two presses of it; Enter ends the utterance. Terminals do not "
    "report that a key is released, so recording ends when Space stops repeating. With --type: between two signals "
    "USR1 (pkill -USR1 -f 'xlsr-live [m]ic'), which a key of the desktop can send.",
)
@click.option(
    "--type",
    "typed",
    is_flag=True,
    help="Write the finals into the window that has the focus (with wtype, ydotool or xdotool).",
)
@urls_option("Recognize on this server instead of here.")
@output_options("live text on a terminal, else jsonl")
@recognizer_options(device=("--device", "--compute"))
@token_option
@share_option
@lid_option
@translator_options
@session_options
def mic(
    listing: bool,
    microphone: str | None,
    duration: float | None,
    held: bool,
    typed: bool,
    url: list[str],
    output: OutputOptions,
    token_file: Path | None,
    share: bool,
    **settings: Any,
) -> int:
    """Show the text of live speech. Ctrl-C stops after the final of the open utterance."""
    if listing:
        list_devices()
        return 0
    check_place(url)

    from ..sources.microphone import open_microphone

    if held and settings["vad"] is None:
        settings["vad"] = "none"  # the user says when there is speech
    typing = typing_program() if typed else None
    model, config, token = take_model_options(settings), session_config(settings), read_token(token_file)
    # It records from here on: words that are said while the model loads are recognized, too.
    with ExitStack() as stack:
        if held and sys.platform != "win32":
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until the session starts; its default ends the program
        keys = stack.enter_context(_keys(typed)) if held else None
        source = stack.enter_context(closing(open_microphone(microphone, held=held)))
        audio = source.audio
        if url:
            from ..remote.websocket import connect

            open_session: OpenSession = partial(connect, url, config=config, audio=audio, token=token, share=share)
            about: About = about_model
        else:
            recognizer = stack.enter_context(load_recognizer(model))
            open_session = partial(recognizer.session, config, audio)
            about = partial(about_loaded, recognizer, config)
        others = stack.enter_context(side_outputs(output, config=config, paced=True, local=not url))
        if typing:
            others.append(stack.enter_context(in_case(Typist(typing), output.case)))
        shown = Together([stack.enter_context(live_output(output, meter=True)), *others])
        shown.begin(source.device.name)
        shown.note(f"Listening to {source.device.name}. Ctrl-C stops.")
        gate = partial(_while_held, keys, shown) if keys else None
        return asyncio.run(_listen(source, open_session, duration, shown, gate, about))


@contextmanager
def _keys(typed: bool) -> Generator[Callable[[], str]]:
    """Where Space and Enter are read. With --type other windows get the keys."""
    if typed:
        yield str
    else:
        with keyboard() as keys:
            yield keys


def _while_held(keys: Callable[[], str], shown: Output, blocks: AsyncIterator[Block]) -> AsyncIterator[Block | EndHere]:
    key = TalkKey()
    if sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: key.press(time.monotonic()))

    def show(talking: bool) -> None:
        shown.hint("Talking. Space or its release stops." if talking else "Space talks. Ctrl-C ends.")

    return push_to_talk(blocks, key, keys, show)


async def _listen(
    microphone: Microphone,
    open_session: OpenSession,
    duration: float | None,
    shown: Output,
    gate: Callable[[AsyncIterator[Block]], AsyncIterator[Block | EndHere]] | None,
    about: About,
) -> int:
    from ..sources.microphone import RING_SECONDS

    warned: set[str] = set()
    live = False  # the audio from before the start is recognized

    def warn(code: str, message: str) -> None:
        if code not in warned:
            warned.add(code)
            complain(message)

    def level(dbfs: float) -> None:
        nonlocal live
        shown.level(dbfs)
        live = live or microphone.waiting < LIVE_SECONDS
        if live and microphone.waiting > LATE_SECONDS:
            warn("slow", "recognition is slower than real time: use a smaller model, a GPU or --url")
        if microphone.dropped:
            warn("lost", f"audio was lost: at most {RING_SECONDS:.0f} s can wait for recognition")
        if microphone.gaps:
            warn("gaps", f"{microphone.device.name} lost audio: this computer is too busy to record all of it")
        if microphone.silence > SILENT_SECONDS:
            name = microphone.device.name
            warn("silent", f"{name} sends only zeros: it is muted, or this program has no permission to use it")

    def show(event: Event) -> None:
        if isinstance(event, SessionStarted):
            shown.note(about(event.model))
        shown.show(event)

    async with open_session() as session:
        shown.head_start(microphone.waiting)  # recorded while the model loaded
        blocks = microphone.blocks(duration, level)
        announced = announce_link(session, show)
        return await pump(session, gate(blocks) if gate else blocks, announced, stop=microphone.stop)
