"""The model as a front process knows it: all that sessions need, without the weights and without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ...streaming.audio.normalize import normalize
from ...streaming.config import ModelOptions, SessionConfig
from ...streaming.ctc.assets import Assets
from ...streaming.ctc.vocabulary import Vocabulary
from ...streaming.model.assets import load_language_assets
from ...streaming.model.source import find_source
from ...streaming.model_parts import RunningModel
from ...streaming.recognizer import Recognizer
from .link import ask
from .messages import ModelDescription, VocabularyQuestion
from .remote_engine import RemoteEngine

if TYPE_CHECKING:
    from ...streaming.model.encoder import XlsrEncoder


class RemoteEncoder:
    """Describes the encoder of the engine process; see `XlsrEncoder`."""

    identifier = None

    def __init__(self, description: ModelDescription, languages: RemoteLanguages | None) -> None:
        self.info = description.info
        self.vocabulary = description.vocabulary
        self.normalized = description.normalized
        self.epsilon = description.epsilon
        self.languages = languages
        self._room = description.room

    def normalize(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        return normalize(samples, self.epsilon) if self.normalized else samples

    def room(self, config: SessionConfig) -> int | None:
        """That of sessions with default settings."""
        return self._room


class RemoteLanguages:
    """See `ManyLanguages`. The engine process loads adapters; a front, what decoding needs."""

    def __init__(self, description: ModelDescription, options: ModelOptions, address: str) -> None:
        self.known = description.languages
        self.default = description.language
        self._options = options
        self._address = address
        self._vocabularies: dict[str, Vocabulary] = {}
        self._assets: dict[str, Assets] = {}

    def ensure(self, language: str) -> None:
        self._vocabularies[language] = ask(self._address, VocabularyQuestion(language))

    def vocabulary(self, language: str) -> Vocabulary:
        if language not in self._vocabularies:
            self.ensure(language)
        return self._vocabularies[language]

    def assets(self, language: str) -> Assets:
        if language not in self._assets:
            options = self._options
            self._assets[language] = load_language_assets(
                find_source(options.model, options.revision),
                language,
                self.vocabulary(language),
                options.lm,
                options.calibration,
                default=language == self.default,
            )
        return self._assets[language]


def describe(recognizer: Recognizer, limit: int) -> ModelDescription:
    """The recognizer of the engine process; `limit`: of sessions."""
    encoder = recognizer.encoder
    many: Any = encoder.languages
    return ModelDescription(
        info=encoder.info,
        vocabulary=encoder.vocabulary,
        normalized=encoder.normalized,
        epsilon=encoder.epsilon,
        room=recognizer.room,
        languages=() if many is None else many.known,
        language=None if many is None else many.default,
        classes=recognizer.languages.classes,
        limit=limit,
    )


def front_recognizer(options: ModelOptions, engine: RemoteEngine, address: str) -> Recognizer:
    """A recognizer over the engine process at this address; waits for it. Raises `EngineError` if `engine` is closed,
    `ModelError` and `LanguageModelError`."""
    description = engine.description.result()
    languages = RemoteLanguages(description, options, address) if description.languages else None
    encoder = cast("XlsrEncoder", RemoteEncoder(description, languages))  # a recognizer asks it nothing else
    return Recognizer.from_options(options, running=RunningModel(encoder, description.classes, engine))
