"""Runs a campaign's click command as a program: errors become one line and exit status 2, as in `xlsr-live`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
from xlsr_live.streaming.errors import XlsrLiveError


def run_program(command: click.Command, arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status. `arguments` None: those of the process."""
    name = f"python -m tests.load.{command.name}"
    try:
        status = command.main(arguments, prog_name=name, standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.ClickException as error:
        message = error.format_message()
    except XlsrLiveError as error:
        message = str(error)
    except (click.Abort, KeyboardInterrupt):
        return 130
    print(f"{name}: {message}", file=sys.stderr)
    return 2
