"""The options of a model among the settings of a server."""

from __future__ import annotations

from dataclasses import fields

from ...streaming.config import ModelOptions
from ..settings import ServerSettings


def model_options(settings: ServerSettings) -> ModelOptions:
    """The options that both have; the others keep their defaults."""
    shared = [field.name for field in fields(ModelOptions) if field.name in ServerSettings.__struct_fields__]
    return ModelOptions(**{name: getattr(settings, name) for name in shared})
