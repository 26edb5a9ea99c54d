"""The model in this process, loaded only where a command needs it."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ...streaming.errors import XlsrLiveError

if TYPE_CHECKING:
    from ...streaming.recognizer import Recognizer


class MissingPackage(XlsrLiveError):
    """A part of the program is not installed."""

    code = "not_installed"


@contextmanager
def needs(extra: str, purpose: str) -> Generator[None]:
    """Turn a failed import inside the block into a sentence that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("xlsr_live"):
            raise  # a module of ours: nothing that pip could add
        raise MissingPackage(
            f"{purpose} needs the package {error.name}, which is not installed: pip install 'xlsr-live[{extra}]'"
        ) from error


def load_recognizer(
    model: str = "bundled",
    *,
    revision: str | None = None,
    language: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    lm: str | None = "none",
    calibration: Path | str | None = None,
) -> Recognizer:
    """Load a model and say so on a terminal while it takes its time; `lm` as `Recognizer.load` has it, none unless a
    command offers it. Raises `ModelError`, `LanguageModelError` or `MissingPackage`.
    """
    with needs("server", "recognizing speech here"), waiting(f"loading the model ({model})"):
        from ...streaming.recognizer import Recognizer

        return Recognizer.load(
            model,
            revision=revision,
            language=language,
            device=device,
            dtype=dtype,
            threads=threads,
            lm=lm,
            calibration=calibration,
        )


def waiting(what: str) -> AbstractContextManager[object]:
    """A spinner on stderr for as long as the block lasts; nothing where stderr is not a terminal."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True, no_color=True).status(f"[dim]{what} ...")
