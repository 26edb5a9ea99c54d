"""The languages that a session may use, and what decoding needs in each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .assets import Assets
from .vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class LanguageSet:
    """Vocabulary and assets by language, as the checkpoint names it; None where it has only one, without a name."""

    entries: Mapping[str | None, tuple[Vocabulary, Assets]]
    classes: Mapping[str, tuple[int, ...]] | None = None  # of an identification model, by language; None: there is none

    @property
    def only(self) -> Vocabulary | None:
        """The vocabulary of the only language; None if there are several."""
        return next(iter(self.entries.values()))[0] if len(self.entries) == 1 else None

    def __getitem__(self, language: str | None) -> tuple[Vocabulary, Assets]:
        """Raises `KeyError` for a language that the session may not use."""
        return self.entries[language]

    def __contains__(self, language: object) -> bool:
        return language in self.entries

    def __iter__(self) -> Iterator[str | None]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)
