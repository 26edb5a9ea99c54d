"""The `xlsr-live` command. Each sub-command has its own module, which imports heavy packages only when it runs.

Exit status: 0; 2 for bad usage or input, with one line on stderr; 130 after Ctrl-C; 143, 129 after
SIGTERM, SIGHUP; 1 for an internal error.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from importlib import import_module
from typing import Any

import click
from click.core import ParameterSource

from ..streaming.errors import XlsrLiveError
from .console import complain, prepare_streams
from .options.defaults import PREFIX, default_map, key_of, known_names, read_file

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a full disk

EPILOG = """\b
Start here:
  xlsr-live demo                        see it work, without a microphone
  xlsr-live transcribe talk.wav         a recording to text
  xlsr-live transcribe talk.wav --format srt > talk.srt
  xlsr-live mic                         live text from the microphone
  xlsr-live serve                       a websocket server for other programs
  xlsr-live bench                       accuracy and speed on your own audio
  xlsr-live finetune                    a model of your own language and words
  xlsr-live COMMAND --help              every option, with examples
"""


# The module of each command, in the order of the help.
MODULES = {
    "demo": "commands.demo",
    "transcribe": "commands.transcribe",
    "mic": "commands.mic",
    "commands": "commands.voice_commands",
    "serve": "commands.serve",
    "cluster": "commands.cluster",
    "stream": "commands.stream",
    "bench": "bench.group",
    "finetune": "commands.finetune",
    "calibrate": "commands.calibrate",
    "languages": "commands.languages",
    "models": "commands.models",
    "devices": "commands.devices",
    "doctor": "commands.doctor",
}


class Commands(MutableMapping[str, click.Command]):
    """Imports each command at its first use."""

    def __init__(self) -> None:
        self._imported: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._imported:
            self._imported[name] = getattr(import_module(f".{MODULES[name]}", __package__), name)
        return self._imported[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._imported[name] = command

    def __delitem__(self, name: str) -> None:
        del self._imported[name]

    def __contains__(self, name: object) -> bool:
        return name in MODULES

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)


class InOrder(click.Group):
    """A group that lists its commands in the order of `MODULES`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.commands = Commands()

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=InOrder, epilog=EPILOG, invoke_without_command=True, context_settings={"max_content_width": 100})
@click.version_option(package_name="xlsr-live", prog_name="xlsr-live", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Live speech to text with XLS-R models.

    Every option also has a variable (XLSR_LIVE_MODEL for --model) and a key in the TOML file that XLSR_LIVE_CONFIG
    names (model = "..."). Options override variables, and variables override the file.
    """
    if (name := context.invoked_subcommand) is None:
        click.echo(context.get_help())
    elif name not in ("serve", "cluster"):  # which read them themselves
        file = read_file(os.environ, lambda: known_names(cli) | {"token"})
        context.default_map = {name: default_map(cli.commands[name], file, os.environ)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    status = run(arguments)
    try:
        sys.stdout.flush()
    except OSError:  # already reported; otherwise the interpreter would report it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    prepare_streams()
    try:
        status = cli.main(arguments, prog_name="xlsr-live", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "xlsr-live"
        return _failed(f"{error.format_message().rstrip('.')}{_source(error)} (see: {path} --help)", 2)
    except click.ClickException as error:
        return _failed(error.format_message(), 2)
    except XlsrLiveError as error:
        return _failed(str(error), 2)
    except (click.Abort, KeyboardInterrupt, asyncio.CancelledError):
        return 130
    except OSError as error:
        where = error.filename or ("standard output" if error.errno in FULL else "the system")
        return _failed(f"{where}: {error.strerror or error}", 2)
    except Exception as error:
        if os.environ.get("XLSR_LIVE_DEBUG"):
            raise
        return _failed(f"internal error: {type(error).__name__}: {error} (XLSR_LIVE_DEBUG=1 shows where)", 1)


def _source(error: click.UsageError) -> str:
    """Where the value came from, if not from the command line."""
    if not isinstance(error, click.BadParameter) or not error.ctx or not error.param or not error.param.name:
        return ""
    if error.ctx.get_parameter_source(error.param.name) is not ParameterSource.DEFAULT_MAP:
        return ""
    return f", from {PREFIX}{key_of(error.param).upper()} or the configuration file"


def _failed(message: str, status: int) -> int:
    complain(message)
    return status


if __name__ == "__main__":
    main()
