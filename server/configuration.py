"""Where settings come from: a TOML file, over it the environment, over both the flags. One list of names for all three:
`max_sessions` in the file, `XLSR_LIVE_MAX_SESSIONS`, `--max-sessions`.

A mistake is one sentence that names the file and line, the variable or the flag.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import msgspec

from ..streaming.errors import ConfigError
from .settings import SECRET, ServerSettings, problem

PREFIX: Final = "XLSR_LIVE_"
NOT_SETTINGS: Final = {"XLSR_LIVE_CONFIG", "XLSR_LIVE_DEBUG", "XLSR_LIVE_COMMAND"}
FIELDS: Final = {field.name: field for field in msgspec.structs.fields(ServerSettings)}


@dataclass(frozen=True)
class Configuration:
    settings: ServerSettings
    sources: Mapping[str, str]  # of each setting that is not at its default

    def __str__(self) -> str:
        """A configuration file that says the same, and where each value comes from; secrets are left out."""
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
    file: Path | None = None, environment: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> Configuration:
    """Read all three; flags whose value is None or empty were not given, nor are empty variables. Raises
    `ConfigError`.
    """
    environment = environment or {}
    if file is None and (named := environment.get("XLSR_LIVE_CONFIG")):
        file = Path(named)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, value, source in (
        *(_read_file(file) if file else ()),
        *_read_environment(environment),
        *_read_flags(flags or {}),
    ):
        if name in ("token", "token_file"):  # two ways to say one thing: here too the later counts
            values = {other: values[other] for other in values if other not in ("token", "token_file")}
        values[name], sources[name] = value, source
    return Configuration(ServerSettings(**values), {name: sources[name] for name in values})


def flag(name: str) -> str:
    """The flag of a setting; one that may be repeated is in the singular."""
    if several(name):
        name = name.replace("proxies", "proxy").removesuffix("s")
    return "--" + name.replace("_", "-")


def several(name: str) -> bool:
    return any(get_origin(each) is tuple for each in (FIELDS[name].type, *get_args(FIELDS[name].type)))


def _read_file(file: Path) -> Iterator[tuple[str, Any, str]]:
    try:
        text = file.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {file}: {getattr(error, 'strerror', error)}") from None
    except tomllib.TOMLDecodeError as error:  # its text ends with line and column
        raise ConfigError(f"{file} is not TOML: {error}") from None
    for name, value in table.items():
        key = rf"\s*(\[+\s*)?[\"']?{re.escape(name)}\b"
        line = next((number for number, line in enumerate(text.splitlines(), 1) if re.match(key, line)), 1)
        where = f"{file}, line {line}"
        yield name, _converted(name, value, where, strict=True), where


def _read_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    for variable, text in sorted(environment.items()):
        if variable.startswith(PREFIX) and variable not in NOT_SETTINGS and text:
            name = variable.removeprefix(PREFIX).lower()
            value = [each.strip() for each in text.split(",")] if name in FIELDS and several(name) else text
            yield name, _converted(name, value, variable, strict=False), variable


def _read_flags(flags: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    for name, value in flags.items():
        if value is not None and value != ():
            yield name, _converted(name, value, flag(name), strict=False), flag(name)


def _converted(name: str, value: Any, where: str, *, strict: bool) -> Any:
    if name not in FIELDS:
        near = get_close_matches(name, FIELDS, 1)
        meant = f"; {near[0]!r} is meant?" if near else ""
        raise ConfigError(f"{where}: there is no setting {name!r}{meant}")
    try:
        return msgspec.convert(value, FIELDS[name].type, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {problem(name, value, str(error))}") from None


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # as a basic string of TOML
    return str(value).lower() if isinstance(value, bool) else repr(value)
