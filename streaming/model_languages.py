"""The languages of a loaded model: which a session may use, found by name and loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from .config import AUTO
from .ctc.assets import Assets
from .ctc.languages import LanguageSet
from .ctc.vocabulary import Vocabulary
from .errors import ConfigError
from .languages import choose, find_classes


class ManyLanguages(Protocol):
    """What a multilingual encoder offers."""

    @property
    def known(self) -> tuple[str, ...]:
        """Codes of all its languages, sorted."""
        ...

    @property
    def default(self) -> str | None:
        """The language with which it was loaded."""
        ...

    def vocabulary(self, language: str) -> Vocabulary: ...
    def assets(self, language: str) -> Assets: ...
    def ensure(self, language: str) -> None:
        """Load a language, unless it is loaded. May take long. Raises `ModelError`."""
        ...


class Classes(NamedTuple):
    """What an identification model tells apart."""

    model: str  # its name
    labels: tuple[str, ...]


class ModelLanguages:
    """`many` is None for a model with one language, whose `vocabulary`, `assets` and `name` are then those of all
    sessions. `default` and `allowed` are for sessions that name no language, as in `SessionConfig`. `classes` are those
    of an identification model, if there is one.
    """

    def __init__(
        self,
        model: str,
        many: ManyLanguages | None,
        only: tuple[str | None, Vocabulary, Assets],
        default: str | None = None,
        allowed: Sequence[str] = (),
        classes: Classes | None = None,
    ) -> None:
        self.classes = classes
        self._model = model
        self._many = many
        self._only = only
        self._default = default, tuple(allowed)

    @property
    def known(self) -> tuple[str, ...]:
        """Codes of all languages; empty for a model with one."""
        return () if self._many is None else self._many.known

    @property
    def identifies(self) -> bool:
        """Whether sessions that name no language have "auto"."""
        return self._default[0] == AUTO

    @property
    def trial(self) -> str | None:
        """What to name in a session that only tries the model: None where there is a default, else any language."""
        many = self._many
        return None if many is None or self._default[0] or many.default else many.known[0]

    def vocabulary(self, code: str | None) -> Vocabulary:
        """That of a language, as the model names it; None for a model with one."""
        return self._only[1] if self._many is None or code is None else self._many.vocabulary(code)

    def codes(self, language: str | None = None, allowed: Sequence[str] = ()) -> tuple[str | None, ...]:
        """The languages that a session may use, as the model names them; (None,) for a model with one.

        Raises `ConfigError` for languages that it, or the identification model, does not have.
        """
        if self._many is None:
            if language is not None and self._only[0] is None:
                raise ConfigError(f"{self._model} has no languages to choose from: leave the language out")
            if language is not None:
                choose(language, allowed, known=(self._only[0] or "",), default=None, model=self._model)
            return (None,)
        if language is None:
            language, allowed = self._default
        codes = choose(language, allowed, known=self._many.known, default=self._many.default, model=self._model)
        self._classes_of(codes)
        return codes

    def _classes_of(self, codes: Sequence[str | None]) -> Mapping[str, tuple[int, ...]] | None:
        if self.classes is None or len(codes) < 2:
            return None
        return find_classes(tuple(map(str, codes)), self.classes.labels, self.classes.model)

    def load(self, language: str | None = None, allowed: Sequence[str] = ()) -> LanguageSet:
        """The same languages, loaded. Raises `ConfigError`, and `ModelError` if one does not load."""
        entries: dict[str | None, tuple[Vocabulary, Assets]] = {}
        for code in self.codes(language, allowed):
            if self._many is None or code is None:
                entries[code] = self._only[1:]
            else:
                self._many.ensure(code)
                entries[code] = self._many.vocabulary(code), self._many.assets(code)
        return LanguageSet(entries, self._classes_of(tuple(entries)))
