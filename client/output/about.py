"""The model of a session as one line for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ...streaming.known_models import language_of

if TYPE_CHECKING:
    from ...streaming.config import SessionConfig
    from ...streaming.recognizer import Recognizer

SMALL: Final = 50_000_000  # parameters; the page has the same limit (server/page/model.js)


def about_model(name: str, codes: Sequence[str] = (), parameters: int | None = None) -> str:
    """Its name, the languages of the speech, and what to expect of a small one. Without `codes` and `parameters`, as
    with a model on a server, only what its name says.
    """
    from ...streaming.languages import name as language_name

    languages = [language_name(code) for code in codes or filter(None, [language_of(name)])]
    small = name == "bundled" if parameters is None else parameters < SMALL
    return f"Model: {', '.join([name, *languages])}." + " It is small: expect errors." * small


def about_loaded(recognizer: Recognizer, config: SessionConfig, name: str) -> str:
    """The same of a model in this process, for a session with this configuration."""
    codes = recognizer.languages.codes(config.language, config.allowed_languages)
    spoken = [code for code in codes if code] or [*filter(None, [recognizer.spoken_language])]
    return about_model(name, spoken, recognizer.info.parameters)
