"""`xlsr-live commands`: carry out what is said, as far as a grammar knows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from ...streaming.errors import ConfigError, GrammarError, XlsrLiveError
from ...streaming.protocol.events import Command, Event, Rejected, Warning
from ..console import complain
from ..options.model import device_option, lm_option, load_recognizer, model_options, take_model_options
from ..options.server import check_place, read_token, refuse, token_option
from ..options.session import session_config, session_options
from ..output.actions import Action, RecognizedCommand, function, program, show

if TYPE_CHECKING:
    from ...streaming.config import AudioFormat
    from ...streaming.ctc.vocabulary import Vocabulary
    from ..pump import Block, LiveSession

    Opening = Callable[[], AbstractAsyncContextManager[LiveSession]]

OWN: Final = ("grammar", "command_score", "command_word_score", "command_alternatives", "nbest")  # or of no use here

EPILOG = """\b
A grammar is a text file:
  light: [turn] (state: on | off) the (room: <room>) light     a command: words, [optional], a | b, slots
  code:  code (code: <digit>{4})                               repeated: {4}, {2,4}, +, *
  level: set volume to (level: <number 0..100>)                numbers and <digits> are there already
  <room> = kitchen | living room | (bath | bathroom)=bath      a rule, and what words are worth in a slot

\b
Examples:
  xlsr-live commands house.txt                                 from the microphone
  xlsr-live commands house.txt talk.wav --rejected
  xlsr-live commands house.txt --say "turn on the kitchen light"
  xlsr-live commands house.txt --exec ./lights.sh              runs  ./lights.sh light state=on room=kitchen
  xlsr-live commands house.txt --call home:heard               calls heard({"command": "light", ...}) of home.py
  xlsr-live commands house.txt --wake "hey computer"
  xlsr-live commands house.txt --url ws://127.0.0.1:8765/v1/stream
"""


@click.command(epilog=EPILOG, short_help="Carry out voice commands.")
@click.argument("grammar", type=click.Path(path_type=Path))
@click.argument("source", default="mic", metavar="[FILE|mic]")
@click.option("--exec", "line", metavar="PROGRAM", help="Run this for each command; no shell is involved.")
@click.option("--call", "name", metavar="MODULE:FUNCTION", help="Call this Python function with each command.")
@click.option("--say", metavar="WORDS", help="Only tell what these words mean.")
@click.option("--score", "command_score", type=float, metavar="0..1", help="Least score of a command. [default: 0.5]")
@click.option(
    "--word-score", "command_word_score", type=float, metavar="0..1", help="Least score of its words. [default: 0.05]"
)
@click.option("--alternatives", "command_alternatives", type=int, metavar="N", help="Tell N others it might be.")
@click.option("--rejected", is_flag=True, help="Print what was not accepted, too.")
@click.option("--device", metavar="NAME|NUMBER", help="Which microphone. [default: the system's]")
@click.option("--url", metavar="URL", help="Recognize on this server instead of here.")
@model_options
@lm_option("none")
@device_option("--compute")
@token_option
@partial(session_options, leave=OWN)
def commands(
    grammar: Path,
    source: str,
    line: str | None,
    name: str | None,
    say: str | None,
    rejected: bool,
    device: str | None,
    url: str | None,
    token_file: Path | None,
    **settings: Any,
) -> int:
    """Listen for the commands of GRAMMAR and print each as a line of JSON, or hand it to a program.

    Other speech is rejected. Every command has a score: 1 where the model heard just its words, near 0 where it heard
    something else.
    """
    if say is not None:
        refuse(("url", "token_file"), "is for listening: with --say the words are only looked up, here")
    else:
        check_place(url)
    if say is not None or source != "mic":
        refuse(("device",), "is for the microphone")
    actions = [make(text) for make, text in ((program, line), (function, name)) if text]
    load = partial(load_recognizer, take_model_options(settings))
    config, token = session_config({**settings, "grammar": grammar}), read_token(token_file)
    try:
        if say is not None:
            with load() as recognizer:
                return _say(config.grammar, recognizer.encoder.vocabulary, say)
        with ExitStack() as stack:
            audio, blocks = stack.enter_context(_listening(source, device))
            if url:
                from ..remote.websocket import connect

                opening: Opening = partial(connect, url, config=config, audio=audio, token=token)
            else:
                opening = partial(stack.enter_context(load()).session, config, audio)
            hands = stack.enter_context(ThreadPoolExecutor(1, "actions"))  # waits for them at the end
            return 130 if asyncio.run(_hear(opening, blocks, partial(_act, hands, actions, rejected))) else 0
    except XlsrLiveError as error:
        if error.code == GrammarError.code:
            raise ConfigError(f"{grammar}, {error}") from error
        raise


def _say(grammar: str, vocabulary: Vocabulary, words: str) -> int:
    from ...streaming.commands.matcher import compiled

    meaning = compiled(grammar, vocabulary).understand(words)
    if meaning is None:
        raise ConfigError(f"not in the grammar: {words}")
    show({"command": meaning.command, "slots": meaning.values()})
    return 0


@contextmanager
def _listening(source: str, device: str | None) -> Generator[tuple[AudioFormat, AsyncIterator[Block]]]:
    """The microphone or a recording. Raises `AudioError` and `MicrophoneError`."""
    if source != "mic":
        from ...streaming.audio.files import open_audio
        from ...streaming.config import AudioFormat
        from ..sources.sources import file_blocks

        file = open_audio(source)
        yield AudioFormat(sample_rate=file.sample_rate, channels=file.channels), file_blocks(file)
        return
    from ..sources.microphone import Microphone

    with closing(Microphone(device)) as microphone:
        yield microphone.audio, microphone.blocks(None, lambda _: None)


async def _hear(opening: Opening, blocks: AsyncIterator[Block], act: Callable[[Event], None]) -> bool:
    from ..pump import pump

    async with opening() as session:
        return await pump(session, blocks, act)


def _act(hands: Executor, actions: list[Action], rejected: bool, event: Event) -> None:
    """Print what was heard; actions take their time in another thread, one after the other."""
    match event:
        case Command():
            heard: RecognizedCommand = msgspec.to_builtins(event)
            show(heard)
            for action in actions:
                hands.submit(action, heard)
        case Rejected() if rejected:
            show(msgspec.to_builtins(event))
        case Warning():
            complain(f"{event.code}: {event.message}")
        case _:
            pass
