"""Translators whose faults a test chooses, and services with them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from xlsr_live.streaming.protocol.events import Event, Final, Translation, Warning
from xlsr_live.streaming.translation.service import TranslationService
from xlsr_live.streaming.translation.translator import Segment

LIMIT = 60  # seconds after which a test has failed


class FakeTranslator:
    """Writes the target before the text, as in "es:HELLO". `trouble` may raise, or wait."""

    costly = False

    def __init__(
        self,
        trouble: Callable[[Sequence[Segment]], None] = lambda segments: None,
        *,
        speech: bool = False,
        targets: tuple[str, ...] = ("es", "fr", "de"),
        max_batch: int = 1,
    ) -> None:
        self.name = "fake"
        self.speech = speech
        self.max_batch = max_batch
        self.batches: list[list[Segment]] = []
        self.closed = False
        self._trouble = trouble
        self._targets = targets

    def sources(self) -> tuple[str, ...]:
        return () if self.speech else ("en",)

    def targets(self, source: str | None) -> tuple[str, ...]:
        return self._targets

    def translate(self, segments: Sequence[Segment]) -> list[str]:
        self.batches.append(list(segments))
        self._trouble(segments)
        return [f"{each.target}:{each.text}" for each in segments]

    def close(self) -> None:
        self.closed = True


class FromGerman(FakeTranslator):
    """Translates only German."""

    def sources(self) -> tuple[str, ...]:
        return ("de",)


class Gate:
    """A trouble that waits for a text until it is opened."""

    def __init__(self, *texts: str) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()
        self._texts = texts

    def __call__(self, segments: Sequence[Segment]) -> None:
        if not self._texts or any(each.text in self._texts for each in segments):
            self.reached.set()
            assert self.go.wait(LIMIT)


def service(*translators: Any, **options: Any) -> TranslationService:
    return TranslationService(translators, **options)


def final(utterance: int, text: str = "", start: float | None = None) -> Final:
    at = float(utterance) if start is None else start
    return Final(utterance=utterance, text=text or f"TEXT {utterance}", words=(), start=at, end=at + 1, confidence=1.0)


def translated(events: Sequence[Event], language: str | None = None) -> list[str]:
    return [each.text for each in events if isinstance(each, Translation) and language in (None, each.language)]


def warned(events: Sequence[Event]) -> list[str]:
    return [each.message for each in events if isinstance(each, Warning) and each.code == "not_translated"]


def apertium() -> Any:
    """Apertium with its pair English to Spanish; skips where it is not installed."""
    if shutil.which("apertium") is None:
        pytest.skip("needs Apertium (Debian's package apertium-eng-spa)")
    from xlsr_live.streaming.errors import ConfigError
    from xlsr_live.streaming.translation.apertium import Apertium

    try:
        found = Apertium()
    except ConfigError as error:
        pytest.skip(str(error))
    if "spa" not in found.targets("eng"):
        pytest.skip("needs Debian's package apertium-eng-spa")
    return found
