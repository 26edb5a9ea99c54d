"""Defaults of every command's options from one TOML file and the environment, with the names that `serve` uses.

`model` in the file XLSR_LIVE_CONFIG, XLSR_LIVE_MODEL, and `--model`; each overrides the one before it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import click

from ...streaming.errors import ConfigError
from ...streaming.textfile import read_text

PREFIX: Final = "XLSR_LIVE_"
FILE_VARIABLE: Final = "XLSR_LIVE_CONFIG"


def key_of(option: click.Parameter) -> str:
    """The key of an option: its first long flag, with underscores."""
    flag = next(flag for flag in option.opts if flag.startswith("--"))
    return flag[2:].replace("-", "_")


def names(option: click.Option) -> set[str]:
    """The keys of an option: that of its flag, and the plural if it may be repeated."""
    return {key_of(option), option.name or ""} if option.multiple else {key_of(option)}


def known_names(command: click.Command) -> set[str]:
    """The keys of all options of a command and of its sub-commands."""
    if isinstance(command, click.Group):
        return set[str]().union(*map(known_names, command.commands.values()))
    return set[str]().union(*map(names, _options(command)))


def read_file(environment: Mapping[str, str], known_keys: Callable[[], set[str]]) -> dict[str, Any]:
    """The configuration file that the environment names. Raises `ConfigError`, also for an unknown key."""
    if not (name := environment.get(FILE_VARIABLE)):
        return {}
    try:
        values = tomllib.loads(read_text(Path(name), "the configuration"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not TOML: {error}") from None
    known = known_keys()
    for key in values.keys() - known:
        hint = "".join(f"; did you mean {near!r}?" for near in get_close_matches(key, known, 1))
        raise ConfigError(f"{name}: no command has an option {key!r}{hint}")
    return values


def default_map(command: click.Command, file: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """click's `default_map` of a command, nested for groups."""
    if isinstance(command, click.Group):
        return {name: default_map(each, file, environment) for name, each in command.commands.items()}
    found: dict[str, Any] = {}
    for option in _options(command):
        assert option.name
        for key in sorted(names(option)):
            text = environment.get(PREFIX + key.upper())
            value = file.get(key) if not text else text.split(",") if option.multiple else text
            if value is not None:
                found[option.name] = [value] if option.multiple and isinstance(value, str) else value
    return found


def _options(command: click.Command) -> list[click.Option]:
    return [option for option in command.params if isinstance(option, click.Option) and option.name != "config"]
