"""`xlsr-live commands`: recognize voice commands of a grammar and act on them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from ...streaming.config import AudioFormat
from ...streaming.errors import ConfigError, GrammarError, XlsrLiveError
from ...streaming.protocol.events import Command, Event, Rejected, Warning
from ..console import complain
from ..options.address import urls_option
from ..options.model import load_recognizer, microphone_option, recognizer_options, take_model_options
from ..options.server import check_place, read_token, refuse, token_option
from ..options.session import session_config, session_options
from ..output.actions import Action, RecognizedCommand, describe, function, program, show, small
from ..output.sounds import Sounds
from ..pump import Block, LiveSession, pump
from ..sources.recordings import read_recording
from ..sources.sources import file_blocks

if TYPE_CHECKING:
    from ...streaming.ctc.vocabulary import Vocabulary

OpenSession = Callable[[], AbstractAsyncContextManager[LiveSession]]

# Session settings without a generated option here: they have shorter names below or no effect.
OWN: Final = ("grammar", "command_score", "command_word_score", "command_alternatives", "nbest")

EPILOG = """\b
A grammar is a text file:
  light: [turn] (state: on | off) the (room: <room>) light     a command: words, [optional], a | b, slots
  code:  code (code: <digit>{4})                               repetition: {4}, {2,4}, +, *
  level: set volume to (level: <number 0..100>)                numbers and <digits> are built in
  <room> = kitchen | living room | (bath | bathroom)=bath      a rule, and the value of words in a slot

\b
Examples:
  xlsr-live commands house.txt                                 from the microphone
  xlsr-live commands house.txt talk.wav --rejected
  xlsr-live commands house.txt --say "turn on the kitchen light"
  xlsr-live commands house.txt --exec ./lights.sh              runs  ./lights.sh light state=on room=kitchen
  xlsr-live commands house.txt --call home:act                 calls act({"command": "light", ...}) of home.py
  xlsr-live commands house.txt --wake "hey computer"
  xlsr-live commands house.txt --url studio:8765
"""


@click.command(epilog=EPILOG, short_help="Recognize voice commands.")
@click.argument("grammar", type=click.Path(path_type=Path))
@click.argument("source", default="mic", metavar="[FILE|mic]")
@click.option("--exec", "line", metavar="PROGRAM", help="Run this program for each command, without a shell.")
@click.option("--call", "name", metavar="MODULE:FUNCTION", help="Call this Python function with each command.")
@click.option("--say", metavar="WORDS", help="Only print the command that these words mean.")
@click.option("--score", "command_score", type=float, metavar="0..1", help="Least score of a command. [default: 0.5]")
@click.option(
    "--word-score",
    "command_word_score",
    type=float,
    metavar="0..1",
    help="Least score of each word of a command. [default: 0.05]",
)
@click.option("--alternatives", "command_alternatives", type=int, metavar="N", help="Print N alternatives.")
@click.option("--rejected", is_flag=True, help="Print rejected speech, too. [default: on a terminal]")
@click.option("--sound", is_flag=True, help="A high tone for a command, a low one for rejected speech.")
@microphone_option
@urls_option("Recognize on this server instead of here.")
@recognizer_options("none", device=("--device", "--compute"))
@token_option
@partial(session_options, leave=OWN)
def commands(
    grammar: Path,
    source: str,
    line: str | None,
    name: str | None,
    say: str | None,
    rejected: bool,
    sound: bool,
    microphone: str | None,
    url: list[str],
    token_file: Path | None,
    **settings: Any,
) -> int:
    """Recognize the commands of GRAMMAR. Print each (a line of JSON, except on a terminal) or pass it to a program.

    Other speech is rejected. The score of a command is near 1 if the model recognized exactly its words, and near 0 if
    it recognized others.
    """
    if say is not None:
        refuse(("url", "token_file"), "is for listening; --say only looks up words in this process")
    else:
        check_place(url)
    if say is not None or source != "mic":
        refuse(("microphone",), "is for live audio")
    actions = [make(text) for make, text in ((program, line), (function, name)) if text]
    load = partial(load_recognizer, take_model_options(settings))
    config, token = session_config({**settings, "grammar": grammar}), read_token(token_file)
    try:
        if say is not None:
            with load() as recognizer:
                return _say(config.grammar, recognizer.encoder.vocabulary, say)
        with ExitStack() as stack:
            audio, blocks, stop = stack.enter_context(_open_source(source, microphone))
            if url:
                from ..remote.websocket import connect

                open_session: OpenSession = partial(connect, url, config=config, audio=audio, token=token)
            else:
                open_session = partial(stack.enter_context(load()).session, config, audio)
            executor = stack.enter_context(ThreadPoolExecutor(1, "actions"))  # leaving it waits for the actions
            act = partial(_act, executor, actions, rejected)
            if sound:
                act = _both(stack.enter_context(Sounds()).show, act)
            return asyncio.run(_run(open_session, blocks, act, stop))
    except XlsrLiveError as error:
        if error.code == GrammarError.code:
            raise ConfigError(f"{grammar}, {error}") from error
        raise


def _say(grammar: str, vocabulary: Vocabulary, words: str) -> int:
    from ...streaming.commands.compiled import compiled

    commands = compiled(grammar, vocabulary)
    meaning = commands.understand(words)
    if meaning is None:
        near = ", ".join(f"'{small(phrase)}'" for phrase in commands.nearest(words))
        raise ConfigError(f"not in the grammar: {words}" + f"; nearest: {near}" * bool(near))
    show({"command": meaning.command, "slots": meaning.values()})
    return 0


@contextmanager
def _open_source(
    source: str, device: str | None
) -> Generator[tuple[AudioFormat, AsyncIterator[Block], Callable[[], None] | None]]:
    """The microphone or a recording, and how to stop it. Raises `AudioError` and `MicrophoneError`."""
    if source != "mic":
        from ...streaming.audio.files import open_audio

        file = open_audio(read_recording(Path(source)).source)
        yield AudioFormat(sample_rate=file.sample_rate, channels=file.channels), file_blocks(file), None
        return
    from ..sources.microphone import open_microphone

    with closing(open_microphone(device)) as microphone:
        yield microphone.audio, microphone.blocks(None, lambda _: None), microphone.stop


def _both(first: Callable[[Event], None], second: Callable[[Event], None]) -> Callable[[Event], None]:
    """Pass each event to both."""

    def show(event: Event) -> None:
        first(event)
        second(event)

    return show


async def _run(
    open_session: OpenSession,
    blocks: AsyncIterator[Block],
    act: Callable[[Event], None],
    stop: Callable[[], None] | None,
) -> int:
    async with open_session() as session:
        return await pump(session, blocks, act, stop=stop)


def _act(executor: Executor, actions: list[Action], rejected: bool, event: Event) -> None:
    """Print a command and queue its actions, which run in order in another thread."""
    on_terminal = sys.stdout.isatty()
    match event:
        case Command():
            command: RecognizedCommand = msgspec.to_builtins(event)
            print(describe(event), flush=True) if on_terminal else show(command)
            for action in actions:
                executor.submit(action, command)
        case Rejected() if rejected or (on_terminal and event.reason != "asleep"):
            print(describe(event), flush=True) if on_terminal else show(msgspec.to_builtins(event))
        case Warning():
            complain(f"{event.code}: {event.message}")
        case _:
            pass
