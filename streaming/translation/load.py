"""Translators by their names."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import ModelOptions
from ..languages import resolve
from .apertium import Apertium
from .service import TranslationService
from .translator import Segment, Translator


def load_translation(options: ModelOptions, device: str) -> TranslationService | None:
    """The service that the options name; None without translators. Raises `ConfigError` and `ModelError`."""
    if not options.translators:
        return None
    translators = load_translators(options.translators, device=device, beams=options.translate_beams)
    return TranslationService(translators, max_lag_s=options.translate_max_lag)


def load_translators(names: Sequence[str], *, device: str = "cpu", beams: int = 1) -> list[Translator]:
    """Load "apertium", or checkpoints by folder or Hugging Face name; `NAME=es,fr` uses only these targets.

    Raises `ConfigError` and `ModelError`.
    """
    loaded: list[Translator] = []
    for name in names:
        name, equals, targets = name.partition("=")
        only = targets.split(",") if equals else []
        translator = _load(name, device, beams, only)
        loaded.append(Restricted(translator, only) if only else translator)
    return loaded


def _load(name: str, device: str, beams: int, only: Sequence[str]) -> Translator:
    if name == "apertium":
        return Apertium()
    from .checkpoints import SPEECH, find_checkpoint  # these need torch

    source, config = find_checkpoint(name)
    if config.model_type == SPEECH:
        from .speech import SpeechTranslator

        return SpeechTranslator(source, config, device=device, beams=beams, only=only)
    from .seq2seq import TextTranslator

    return TextTranslator(source, config, device=device, beams=beams)


class Restricted:
    """A translator for some of its targets. A checkpoint may have tokens of languages that it was not trained for."""

    def __init__(self, translator: Translator, targets: Sequence[str]) -> None:
        self.name = translator.name
        self.speech = translator.speech
        self.costly = translator.costly
        self.max_batch = translator.max_batch
        self._translator = translator
        known = tuple(dict.fromkeys(translator.targets(None)))
        self._targets = tuple(resolve(target, known, translator.name) for target in targets)

    def sources(self) -> tuple[str, ...]:
        return self._translator.sources()

    def targets(self, source: str | None) -> tuple[str, ...]:
        return tuple(each for each in self._translator.targets(source) if each in self._targets)

    def translate(self, segments: Sequence[Segment]) -> list[str]:
        return self._translator.translate(segments)

    def close(self) -> None:
        self._translator.close()
