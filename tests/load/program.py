"""Campaigns as programs: their options, and errors as one line with exit status 2, as in `xlsr-live`."""

from __future__ import annotations

import argparse
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


def campaign_options(doc: str | None, arguments: Sequence[str] | None = None, **numbers: int) -> argparse.Namespace:
    """The options of a campaign's command: these numbers with their defaults, --seed and --model."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {**numbers, "seed": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--model", default="bundled")
    return parser.parse_args(arguments)
