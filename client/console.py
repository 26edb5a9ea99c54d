"""What every command may say on stderr: a line, a spinner, and which package is missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from .errors import MissingPackage


def complain(message: str) -> None:
    """Print one line on stderr."""
    line = " ".join(message.split())
    print(f"xlsr-live: {line}", file=sys.stderr)


@contextmanager
def needs(extra: str, purpose: str) -> Generator[None]:
    """Turn a failed import inside the block into a sentence that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("xlsr_live"):
            raise  # one of our own modules: pip cannot add it
        raise MissingPackage(
            f"{purpose} needs the package {error.name}, which is not installed: pip install 'xlsr-live[{extra}]'"
        ) from error


def waiting(what: str) -> AbstractContextManager[object]:
    """Show a spinner on stderr while the block runs; nothing where stderr is not a terminal."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True, no_color=True).status(f"[dim]{what} ...")


def steerable() -> bool:
    """Whether the terminal can move its cursor."""
    return os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
