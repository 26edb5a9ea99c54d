"""Actions for recognized commands: print, run a program, call a Python function."""

from __future__ import annotations

import codecs
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from ...streaming.captions.subtitles import short_clock
from ...streaming.errors import ConfigError
from ...streaming.protocol.events import Command, Rejected
from ..console import complain, use_utf8

RecognizedCommand = dict[str, Any]  # the fields of a `command` event
Action = Callable[[RecognizedCommand], None]


def show(command: RecognizedCommand) -> None:
    """Print one line of JSON on standard output, in UTF-8."""
    use_utf8()
    print(json.dumps(command, ensure_ascii=False), flush=True)


def describe(event: Command | Rejected) -> str:
    """A line for people: `0:16.2  light  room=kitchen  score 0.97`."""
    score = f"score {event.score:.2f}"
    if isinstance(event, Command):
        return "  ".join([short_clock(event.start), *_named(event.command, event.slots), score])
    if event.reason == "woken":
        return f"{short_clock(event.audio_s)}  wake phrase  {score}"
    best = [f"nearest: '{small(event.best.text)}'", score] if event.best else []
    why = " (no wake phrase)" if event.reason == "asleep" else ""
    return "  ".join([short_clock(event.audio_s), f"rejected{why}", *best])


def small(text: str) -> str:
    """Text of a model that writes only capitals in small letters."""
    return text if any(char.islower() for char in text) else text.lower()


def _named(command: str, slots: Mapping[str, Any]) -> list[str]:
    return [command, *(f"{name}={_plain(value)}" for name, value in slots.items())]


def program(line: str) -> Action:
    """Run a program for each command, without a shell. Its arguments are the command's name and SLOT=VALUE pairs.

    The environment variable XLSR_LIVE_COMMAND has the command as JSON. Raises `ConfigError`.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ConfigError(f"--exec {line}: {error}") from error
    if not words:
        raise ConfigError("--exec needs a program")
    if problem := _problem(words[0]):
        raise ConfigError(f"--exec {line}: {problem}")

    def run(command: RecognizedCommand) -> None:
        arguments = _named(command["command"], command["slots"])
        environment = os.environ | {"XLSR_LIVE_COMMAND": json.dumps(command, ensure_ascii=False)}
        try:
            status = subprocess.run([*words, *arguments], env=environment, check=False).returncode
        except OSError as error:
            complain(f"cannot run {words[0]}: {error.strerror}")
        else:
            if status:
                complain(f"{words[0]} ended with status {status} for {command['command']}")

    return run


def function(name: str) -> Action:
    """Call a Python function, MODULE:FUNCTION, with each command as a dictionary. Raises `ConfigError`."""
    module, _, attribute = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        called = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"--call {name}: {error} (write module:function)") from error
    except Exception as error:
        raise ConfigError(f"--call {name}: {module} fails: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)

    def call(command: RecognizedCommand) -> None:
        try:
            called(command)
        except Exception as error:
            complain(f"{name} failed for {command['command']}: {type(error).__name__}: {error}")

    return call


def _problem(program: str) -> str | None:
    """Why a program cannot run; None if its file shows no reason."""
    path = shutil.which(program)
    if path is None:
        if os.path.isfile(program):
            return f"{program} is not executable" if os.path.dirname(program) else f"write ./{program}"
        return f"program not found: {program}"
    if os.name != "posix":
        return None
    try:
        with open(path, "rb") as file:
            first = file.read(256)
    except OSError:  # an executable file may be unreadable
        return None
    if first.startswith(codecs.BOM_UTF8):
        return f"{program} begins with a byte-order mark; save it as UTF-8 without one"
    if first[:2] == b"#!":
        interpreter = first[2:].split(b"\n")[0].split()[:1]
        missing = not interpreter or not os.path.exists(interpreter[0])
        return f"the interpreter in the first line of {program} does not exist" if missing else None
    if first.isascii() and b"\0" not in first:
        return f"{program} is a text file without a first line such as #!/bin/sh"
    return None


def _plain(value: str | int | list[str | int]) -> str:
    return " ".join(str(each) for each in value) if isinstance(value, list) else str(value)
