"""`xlsr-live commands`: carry out what is said, as far as a grammar knows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..streaming.errors import ConfigError, GrammarError
from .actions import Action, Heard, function, program, show
from .local import load_recognizer, needs
from .options import device_option, model_options, session_config, session_options

if TYPE_CHECKING:
    from ..streaming.commands import Commands, Decision, Hypothesis, Strictness
    from ..streaming.config import AudioFormat, SessionConfig
    from ..streaming.recognizer import Recognizer
    from .sources import Block

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
"""


@click.command(epilog=EPILOG, short_help="Carry out voice commands.")
@click.argument("grammar", type=click.Path(path_type=Path))
@click.argument("source", default="mic", metavar="[FILE|mic]")
@click.option("--exec", "line", metavar="PROGRAM", help="Run this for each command; no shell is involved.")
@click.option("--call", "name", metavar="MODULE:FUNCTION", help="Call this Python function with each command.")
@click.option("--say", metavar="WORDS", help="Only tell what these words mean.")
@click.option("--score", type=float, metavar="0..1", help="Least score of a command. [default: 0.5]")
@click.option("--word-score", type=float, metavar="0..1", help="Least score of each of its words. [default: 0.05]")
@click.option("--alternatives", type=click.IntRange(0, 20), default=0, metavar="N", help="Tell N others it might be.")
@click.option("--rejected", is_flag=True, help="Print what was not accepted, too.")
@click.option("--device", metavar="NAME|NUMBER", help="Which microphone. [default: the system's]")
@model_options
@device_option("--compute")
@session_options
def commands(
    grammar: Path,
    source: str,
    line: str | None,
    name: str | None,
    say: str | None,
    score: float | None,
    word_score: float | None,
    alternatives: int,
    rejected: bool,
    device: str | None,
    model: str,
    revision: str | None,
    language: str | None,
    dtype: str,
    threads: int | None,
    compute: str,
    **settings: Any,
) -> int:
    """Listen for the commands of GRAMMAR and print each as a line of JSON, or hand it to a program.

    Other speech is rejected. Every command has a score: 1 where the model heard just its words, near 0 where it heard
    something else.
    """
    with needs("server", "recognising speech here"):
        from ..streaming.commands import Commands, Strictness
        from ..streaming.grammar import parse_grammar

    usual = Strictness()
    strictness = Strictness(
        score=usual.score if score is None else score,
        word_score=usual.word_score if word_score is None else word_score,
    )
    actions = [make(text) for make, text in ((program, line), (function, name)) if text]
    config = session_config(settings)
    try:
        parsed = parse_grammar(grammar.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{grammar} is not UTF-8 text") from error
    except GrammarError as error:
        raise ConfigError(f"{grammar}, {error}") from error
    with load_recognizer(
        model, revision=revision, language=language, device=compute, dtype=dtype, threads=threads
    ) as recognizer:
        try:
            compiled = Commands(parsed, recognizer.encoder.vocabulary)
        except GrammarError as error:
            raise ConfigError(f"{grammar}, {error}") from error
        if say is not None:
            return _say(compiled, say)
        listening = _Listening(recognizer, compiled, strictness, actions, alternatives, rejected)
        if source != "mic":
            from ..streaming.config import AudioFormat
            from ..streaming.files import open_audio
            from .sources import file_blocks

            file = open_audio(source)
            audio = AudioFormat(sample_rate=file.sample_rate, channels=file.channels)
            asyncio.run(listening.hear(file_blocks(file), audio, config))
            return 0
        from .microphone import Microphone

        with closing(Microphone(device)) as microphone:
            blocks = microphone.blocks(None, lambda _: None)
            asyncio.run(listening.hear(blocks, microphone.audio, config))
        return 0


def _say(commands: Commands, words: str) -> int:
    meaning = commands.understand(words)
    if meaning is None:
        raise ConfigError(f"not in the grammar: {words}")
    show({"command": meaning.command, "slots": meaning.values()})
    return 0


class _Listening:
    """Audio in, actions out; one utterance after the other."""

    def __init__(
        self,
        recognizer: Recognizer,
        commands: Commands,
        strictness: Strictness,
        actions: list[Action],
        alternatives: int,
        rejected: bool,
    ) -> None:
        self._recognizer = recognizer
        self._commands = commands
        self._strictness = strictness
        self._actions = actions
        self._alternatives = alternatives
        self._rejected = rejected

    async def hear(self, blocks: AsyncIterator[Block], audio: AudioFormat, config: SessionConfig) -> None:
        from ..streaming.listening import Ears
        from ..streaming.vad import make_vad

        ears = Ears(config, audio, vad=make_vad(config.vad), normalized=self._recognizer.encoder.normalized)
        async for block in blocks:
            for speech in ears.receive(block):
                await self._decide(speech.start, speech.samples)
        for speech in ears.finish():
            await self._decide(speech.start, speech.samples)

    async def _decide(self, start: int, samples: Any) -> None:
        from ..streaming.commands import Listener

        rows = await asyncio.wrap_future(self._recognizer.engine.submit(samples, deadline=0.0))
        listener = Listener(self._commands, self._strictness, early=False)
        listener.push(rows)
        decision = listener.finish(self._alternatives)
        if decision.accepted or self._rejected:
            heard = _heard(decision, start)
            show(heard)
            for action in self._actions if decision.accepted else ():
                await asyncio.to_thread(action, heard)


def _heard(decision: Decision, start: int) -> Heard:
    from ..streaming.report import report_words

    best = decision.best
    heard: Heard = {"type": "command" if decision.accepted else "rejected", "score": round(decision.score, 3)}
    if best is not None:
        words = [
            {"word": w.word, "start": w.start, "end": w.end, "confidence": w.confidence}
            for w in report_words(best.words, [word.confidence for word in best.words], start)
        ]
        heard |= _meaning(best) | {"words": words}
    if decision.others:
        heard["alternatives"] = [{**_meaning(other), "score": round(other.score, 3)} for other in decision.others]
    return heard


def _meaning(heard: Hypothesis) -> Heard:
    return {"command": heard.meaning.command, "slots": heard.meaning.values(), "text": heard.text}
