"""A recognizer on a small multilingual checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from xlsr_live.streaming.recognizer import Recognizer

from tests.support.checkpoints import publish_multilingual


@contextmanager
def multilingual_recognizer(directory: Path, languages: Mapping[str, tuple[str, ...]]) -> Iterator[Recognizer]:
    """Sessions must name their language: the checkpoint has no default."""
    publish_multilingual(directory, languages, target=None)
    with Recognizer.load(str(directory), device="cpu") as recognizer:
        yield recognizer
