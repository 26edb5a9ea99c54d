"""Actions for recognized commands: print, run a program, call a Python function."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ...streaming.errors import ConfigError
from ..console import complain

RecognizedCommand = dict[str, Any]  # the fields of a `command` event
Action = Callable[[RecognizedCommand], None]


def show(command: RecognizedCommand) -> None:
    """Print one line of JSON on standard output."""
    print(json.dumps(command, ensure_ascii=False), flush=True)


def program(line: str) -> Action:
    """Run a program for each command, without a shell. It gets the command's name and SLOT=VALUE as arguments.

    Its environment variable XLSR_LIVE_COMMAND holds the command as JSON. Raises `ConfigError`.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ConfigError(f"--exec {line}: {error}") from error
    if not words:
        raise ConfigError("--exec needs a program")

    def run(command: RecognizedCommand) -> None:
        slots = [f"{name}={_plain(value)}" for name, value in command["slots"].items()]
        environment = os.environ | {"XLSR_LIVE_COMMAND": json.dumps(command, ensure_ascii=False)}
        try:
            status = subprocess.run([*words, command["command"], *slots], env=environment, check=False).returncode
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
    finally:
        sys.path.pop(0)

    def call(command: RecognizedCommand) -> None:
        try:
            called(command)
        except Exception as error:
            complain(f"{name} failed for {command['command']}: {type(error).__name__}: {error}")

    return call


def _plain(value: str | int | list[str | int]) -> str:
    return " ".join(str(each) for each in value) if isinstance(value, list) else str(value)
