"""`xlsr-live serve`: the server."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from msgspec import inspect

from ...server.configuration import FIELDS, configure, flag, repeatable
from ...server.settings import SECRET, ServerSettings
from ..console import needs, use_utf8
from ..options.defaults import known_names
from ..options.model import load_recognizer

if TYPE_CHECKING:
    from ...streaming.recognizer import Recognizer

F = TypeVar("F", bound=Callable[..., Any])

EPILOG = """\b
Examples:
  xlsr-live serve
  xlsr-live serve --model facebook/wav2vec2-large-960h-lv60-self --device cuda
  XLSR_LIVE_TOKEN=... xlsr-live serve --host 0.0.0.0
  xlsr-live serve --config server.toml --print-config
Then, in another terminal:
  xlsr-live stream talk.wav
"""


def server_options(command: F) -> F:
    """Add every setting of `ServerSettings` to `command` as an option."""
    for name, field in reversed(FIELDS.items()):
        if name in SECRET:
            continue
        kind, text = _described(field.type)
        if field.default is not None and field.default != ():
            text += f" [default: {'no' if field.default is False else field.default}]"
        if kind == [bool]:
            option = click.option(f"{flag(name)}/--no-{flag(name)[2:]}", name, default=None, help=text)
        else:
            metavar = "N" if int in kind else "X" if float in kind else "TEXT"
            choices = [each for each in kind if isinstance(each, str)]
            metavar = "|".join([*(["N"] if int in kind else []), *choices]) if choices else metavar
            option = click.option(flag(name), name, metavar=metavar, multiple=repeatable(name), help=text)
        command = option(command)
    return command


def _described(annotation: Any) -> tuple[list[Any], str]:
    """The types of a setting's values, with choices as literal values, and its description."""
    kinds: list[Any] = []
    text = ""
    waiting: list[inspect.Type] = [inspect.type_info(annotation)]
    while waiting:
        match waiting.pop(0):
            case inspect.Metadata(type=inner) as metadata:
                text = cast(dict[str, str], metadata.extra_json_schema or {}).get("description", text)
                waiting.insert(0, inner)
            case inspect.UnionType(types=types):
                waiting += types
            case inspect.LiteralType(values=values):
                kinds += values
            case inspect.BoolType():
                kinds.append(bool)
            case inspect.IntType():
                kinds.append(int)
            case inspect.FloatType():
                kinds.append(float)
            case _:
                pass
    return kinds, text


@click.command(epilog=EPILOG, short_help="A websocket server for other programs.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Settings as TOML.")
@click.option("--print-config", is_flag=True, help="Show the settings with their sources, and stop.")
@server_options
def serve(config: Path | None, print_config: bool, **flags: Any) -> None:
    """Serve live recognition over websockets (docs/server.md). Ctrl-C stops after the finals of open utterances.

    Every option is also a key of the configuration file (max_sessions = 8) and a variable (XLSR_LIVE_MAX_SESSIONS=8).
    Flags override variables, and variables override the file. The token is not an option: put it into a file or into
    XLSR_LIVE_TOKEN. SIGHUP reads the file and the token again and can change the model; open sessions continue.
    """
    others = known_names(click.get_current_context().find_root().command)
    configured = configure(config, os.environ, flags, others=others)
    if print_config:
        use_utf8()  # as TOML files are
        click.echo(str(configured), nl=False)
        return
    if configured.settings.replicated:
        with needs("cluster", "a server with replicas"):
            from ...server.cluster.local import serve_replicas

            return serve_replicas(configured.settings, load_model)
    with needs("server", "the server"):
        from ...server.run import serve as run

    run(configured.settings, load_model, lambda: configure(config, os.environ, flags, others=others).settings)


def load_model(settings: ServerSettings) -> Recognizer:
    """The recognizer of the settings."""
    from ...server.models.options import model_options

    return load_recognizer(model_options(settings))
