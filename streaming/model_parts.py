"""The parts of a recognizer: a model, in this process or another, and what decoding needs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from .config import AUTO, ModelOptions
from .ctc.assets import Assets
from .engine.service import EngineService
from .model_languages import Classes
from .progress import Report

if TYPE_CHECKING:
    from .model.encoder import XlsrEncoder


class ModelParts(NamedTuple):
    """What `Recognizer` is made from."""

    encoder: XlsrEncoder
    assets: Assets
    classes: Classes | None  # of the identification model


class RunningModel(NamedTuple):
    """A model that runs in another process."""

    encoder: XlsrEncoder  # or what describes it
    classes: Classes | None
    engine: EngineService  # which runs it


def load_parts(options: ModelOptions, report: Report, running: RunningModel | None = None) -> ModelParts:
    """Load a model with its assets; of a `running` one the assets alone, without torch.

    Raises `ModelError` and `LanguageModelError`.
    """
    from .model.assets import load_assets
    from .model.source import find_source

    source = find_source(options.model, options.revision)
    if running is not None:
        encoder, classes = running.encoder, running.classes
    else:
        from .model.load import load

        auto = options.language == AUTO
        encoder = load(replace(options, language=None) if auto else options, source, report=report)
        classes = _load_classes(options.lid, encoder)
    if (many := encoder.languages) is None:
        assets = load_assets(source, encoder.vocabulary, options.lm, options.calibration)
    else:  # of other languages when they are needed
        assets = many.assets(many.default) if many.default else Assets()
    return ModelParts(encoder, assets, classes)


def _load_classes(name: str | None, encoder: XlsrEncoder) -> Classes | None:
    if name is None:
        return None
    from .model.identifier import load_identifier  # with transformers, which most starts do without

    identifier = encoder.identifier = load_identifier(name, encoder)
    return Classes(identifier.name, identifier.labels)
