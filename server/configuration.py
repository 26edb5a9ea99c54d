"""Sources of settings: a TOML or YAML file, overridden by the environment, overridden by flags. All use the same names:
`max_sessions` in the file, `XLSR_LIVE_MAX_SESSIONS`, `--max-sessions`.

An error is one sentence that names the file and line, the variable or the flag.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, cast, get_args, get_origin

import msgspec

from ..streaming.errors import ConfigError
from ..streaming.textfile import read_text
from .settings import SECRET, ServerSettings, describe_error

PREFIX: Final = "XLSR_LIVE_"
NOT_SETTINGS: Final = {
    "XLSR_LIVE_CONFIG",
    "XLSR_LIVE_DEBUG",
    "XLSR_LIVE_COMMAND",
    "XLSR_LIVE_OBS_PASSWORD",
    "XLSR_LIVE_YOUTUBE_URL",
    "XLSR_LIVE_SHARED",  # of the tests, like the next one
    "XLSR_LIVE_SPEECH",
}
FIELDS: Final = {field.name: field for field in msgspec.structs.fields(ServerSettings)}


@dataclass(frozen=True)
class Configuration:
    """The settings, and where each comes from."""

    settings: ServerSettings
    sources: Mapping[str, str]  # by setting, except settings at their defaults

    def __str__(self) -> str:
        """The settings as a configuration file, with the source of each value but without secrets."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        for name in FIELDS:
            value, source = getattr(self.settings, name), self.sources.get(name, "default")
            if name in SECRET and value is not None:
                yield f"# {name} = (not shown)  # {source}"
            elif value is None:
                yield f"# {name} =  # {source}"
            else:
                yield f"{name} = {_toml(value)}  # {source}"


def configure(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    *,
    others: Collection[str] = (),
) -> Configuration:
    """Read all three sources. Ignores flags that are None or empty, empty variables, and `others`: names of options of
    other commands. Raises `ConfigError`.
    """
    environment = environment or {}
    if file is None and (named := environment.get("XLSR_LIVE_CONFIG")):
        file = Path(named)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    foreign = set(others) - FIELDS.keys()
    for name, value, source in (
        *(_read_file(file, foreign) if file else ()),
        *_read_environment(environment, foreign),
        *_read_flags(flags or {}),
    ):
        if name in ("token", "token_file"):  # alternatives: a later source replaces both
            values = {other: values[other] for other in values if other not in ("token", "token_file")}
        values[name], sources[name] = value, source
    return Configuration(ServerSettings(**values), {name: sources[name] for name in values})


def flag(name: str) -> str:
    """The flag of a setting, in the singular if it is repeatable."""
    if repeatable(name):
        name = name.replace("proxies", "proxy").removesuffix("s")
    return "--" + name.replace("_", "-")


def repeatable(name: str) -> bool:
    return any(get_origin(each) is tuple for each in (FIELDS[name].type, *get_args(FIELDS[name].type)))


def _read_file(file: Path, foreign: Collection[str]) -> Iterator[tuple[str, Any, str]]:
    text = read_text(file, "the configuration")
    for name, value in _parsed(file, text).items():
        if name in foreign:
            continue
        key = rf"\s*(\[+\s*)?[\"']?{re.escape(name)}\b"
        line = next((number for number, line in enumerate(text.splitlines(), 1) if re.match(key, line)), 1)
        where = f"{file}, line {line}"
        yield name, _converted(name, value, where, strict=True), where


def _parsed(file: Path, text: str) -> dict[str, Any]:
    if file.suffix not in (".yaml", ".yml"):
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:  # the message ends with line and column
            raise ConfigError(f"{file} is not TOML: {error}") from None
    import yaml  # of the extra `cluster`

    try:
        table: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{file} is not a list of settings: write `name: value` lines")
    return {str(name): value for name, value in cast(dict[Any, Any], table).items()}


def _read_environment(environment: Mapping[str, str], foreign: Collection[str]) -> Iterator[tuple[str, Any, str]]:
    for variable, text in sorted(environment.items()):
        if variable.startswith(PREFIX) and variable not in NOT_SETTINGS and text:
            name = variable.removeprefix(PREFIX).lower()
            if name in foreign:
                continue
            value = [each.strip() for each in text.split(",")] if name in FIELDS and repeatable(name) else text
            yield name, _converted(name, value, variable, strict=False), variable


def _read_flags(flags: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    for name, value in flags.items():
        if value is not None and value != ():
            yield name, _converted(name, value, flag(name), strict=False), flag(name)


def _converted(name: str, value: Any, where: str, *, strict: bool) -> Any:
    if name not in FIELDS:
        similar = get_close_matches(name, FIELDS, 1)
        hint = f"; did you mean {similar[0]!r}?" if similar else ""
        raise ConfigError(f"{where}: there is no setting {name!r}{hint}")
    try:
        return msgspec.convert(value, FIELDS[name].type, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {describe_error(name, value, str(error))}") from None


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # a basic string of TOML
    return str(value).lower() if isinstance(value, bool) else repr(value)
