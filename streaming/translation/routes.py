"""Which translator translates which languages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import ConfigError
from ..languages import UNDETERMINED, bcp47, resolve
from .translator import Translator


class Route(NamedTuple):
    translator: Translator | None  # None: the utterance is in the target language already
    source: str | None  # as the translator names it
    target: str  # as the translator names it
    language: str  # BCP 47, of the target


def find_route(translators: Sequence[Translator], source: str | None, wanted: str) -> Route:
    """The first translator from `source` (None: unknown) into the language `wanted`, as people write both.

    Raises `ConfigError` if there is none.
    """
    problem: ConfigError | None = None
    for translator in translators:
        try:
            code = _source(translator, source)
            target = resolve(wanted, translator.targets(code), translator.name)
        except ConfigError as error:
            problem = problem or error
        else:
            return Route(translator, code, target, bcp47(target))
    if source is not None and (same_language(source, wanted) or same_language(wanted, source)):
        named = next((tag for tag in (bcp47(wanted), bcp47(source)) if tag != UNDETERMINED), wanted)
        return Route(None, None, wanted, named)
    known = ", ".join(target_languages(translators, source)) or "nothing"
    origin = f" from {source}" if source else ""
    if problem is not None and "write one of" in str(problem):
        raise problem
    raise ConfigError(f"no translator{origin} into {wanted!r} here; there is: {known}")


def target_languages(translators: Sequence[Translator], source: str | None) -> tuple[str, ...]:
    """BCP 47 tags of the languages that `source` can be translated into."""
    found: list[str] = []
    for translator in translators:
        try:
            found += map(bcp47, translator.targets(_source(translator, source)))
        except ConfigError:
            continue
    return tuple(dict.fromkeys(found))


def same_language(one: str, other: str) -> bool:
    """Whether two codes or names, as people write them, mean the same language; `other` is a code."""
    try:
        return bool(resolve(one, tuple({bcp47(other), other}), "it"))
    except ConfigError:
        return False


def _source(translator: Translator, source: str | None) -> str | None:
    """The translator's code for the language of the speech. Raises `ConfigError`."""
    known = translator.sources()
    if not known:
        return None
    if source is not None:
        return resolve(source, known, translator.name)
    if len(known) == 1:
        return known[0]
    raise ConfigError(f"{translator.name} must know the language of the speech: name it with --translate-from")
