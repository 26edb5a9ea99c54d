"""Languages as people write them, and as a checkpoint names them.

People write codes of ISO 639-1, 639-2 or 639-3 ("de", "ger", "deu"), BCP 47 tags ("zh-Hans", "en-US"), or names
("German", "Deutsch"). A multilingual checkpoint has codes of its own: ISO 639-3, with a script where a language has
several ("cmn-script_simplified" in MMS, "cmn_Hans" elsewhere). The package `langcodes`, with the data of the Unicode
CLDR, knows which of them mean the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from .config import ALLOWED_LANGUAGES, AUTO, check_language_choice
from .errors import ConfigError

if TYPE_CHECKING:
    from langcodes import Language as Tag

UNDETERMINED: Final = "und"  # what ISO 639-3 calls a language that is not identified
LONGEST: Final = 60  # characters of a code or name


class _Key(NamedTuple):
    """What must agree. Norwegian Bokmål counts as Norwegian, Mandarin as Chinese, as in CLDR."""

    language: str
    script: str | None  # ISO 15924; the usual one if the code has none


@lru_cache(maxsize=1_000)
def resolve(word: str, known: tuple[str, ...], model: str) -> str:
    """The checkpoint's code for a language as people write it. `known` are all codes of the checkpoint `model`.

    Raises `ConfigError` for one that the checkpoint lacks, or that could be several of its languages.
    """
    typed = word.strip()
    if typed in known:
        return typed
    found = [code for code in known if code.casefold() == typed.casefold()] or _matches(typed, known)
    if len(found) == 1:
        return found[0]
    shown = repr(word if len(word) <= LONGEST else word[:LONGEST] + "...")
    if found:
        raise ConfigError(f"{shown} can be {_listed(found)} of {model}: write one of these codes")
    close = _close(typed, known)
    hint = f"; did you mean {close!r}?" if close else ";"
    count = f"{len(known):,} language{'s' if len(known) != 1 else ''}"
    raise ConfigError(f"{model} has no {shown}{hint} it knows {count} (`xlsr-live languages --model {model}`)")


def choose(
    language: str | None, allowed: Sequence[str], *, known: tuple[str, ...], default: str | None, model: str
) -> tuple[str, ...]:
    """Codes of the languages that utterances may have: one, or for "auto" those allowed. `default` is for None.

    Raises `ConfigError`.
    """
    check_language_choice(language, allowed)
    if language == AUTO:
        codes = tuple(dict.fromkeys(resolve(word, known, model) for word in allowed))
        if len(codes) < ALLOWED_LANGUAGES[0]:
            raise ConfigError(f"allowed_languages {_listed(allowed)} are one language of {model}: {codes[0]!r}")
        return codes
    if language is not None:
        return (resolve(language, known, model),)
    if default is None:
        raise ConfigError(no_language(known, model))
    return (default,)


def no_language(known: Sequence[str], model: str) -> str:
    """The sentence for a session that names no language, where there is no default."""
    return (
        f"{model} knows {len(known):,} languages: name the language (--language, or `language` in a request), or "
        f"'auto' with 2 to 10 allowed_languages (`xlsr-live languages --model {model}`)"
    )


@lru_cache(maxsize=100)
def find_classes(codes: tuple[str, ...], labels: tuple[str, ...], model: str) -> dict[str, tuple[int, ...]]:
    """The classes that an identification model has for each language. Labels name no script, so all scripts of a
    language share its classes. A language that no label names gets those of its macrolanguage (`_Key`).

    `labels` name the classes as `id2label` of checkpoints does: codes or names. Raises `ConfigError` for a language
    without a class, and for two with the same.
    """
    owners: dict[int, str] = {}
    classes = {code: _classes(code, labels) for code in codes}
    for code, found in classes.items():
        if not found:
            raise ConfigError(
                f"{model} cannot identify {code!r} ({name(code)}), only {len(labels):,} other languages: leave it out, "
                "or identify without this model"
            )
        for column in found:
            if (owner := owners.setdefault(column, code)) != code:
                raise ConfigError(f"{model} cannot tell {owner!r} from {code!r}: allow only one of them")
    return classes


def search(text: str, known: Sequence[str]) -> list[str]:
    """Codes whose language the text means, or whose code or English name has it as a part; else those with the most
    similar names."""
    wanted = text.strip().casefold()
    meant = _matches(text.strip(), tuple(known))
    named = {code: name(code) for code in known}
    parts = [code for code in known if wanted in code.casefold() or wanted in named[code].casefold()]
    if found := list(dict.fromkeys([*meant, *parts])):
        return found
    by_name = {named[code].casefold(): code for code in known}
    return [by_name[close] for close in get_close_matches(wanted, by_name, n=5, cutoff=0.75)]


@lru_cache(maxsize=4_000)
def name(code: str) -> str:
    """The English name of a checkpoint's language: "Mandarin Chinese (Simplified)"; the code itself if unknown."""
    tag = _tag_of_code(code)
    if tag is None:
        return code
    _, _, rest = _split(code)
    dialect = rest.removeprefix("dialect_") if rest.startswith("dialect_") else ""
    shown = tag.display_name()
    if shown.startswith("Unknown"):
        return code
    return f"{shown} ({dialect})" if dialect else shown


@lru_cache(maxsize=4_000)
def bcp47(code: str) -> str:
    """The BCP 47 tag of a checkpoint's language, which web pages and WebVTT use: "de", "zh-Hans"; "und" if unknown."""
    tag = _tag_of_code(code)
    return UNDETERMINED if tag is None else tag.prefer_macrolanguage().to_tag()


def tag_of(code: str | msgspec.UnsetType) -> str:
    """The BCP 47 tag of a final's or partial's language; empty if nobody knows it."""
    tag = bcp47(code) if code else UNDETERMINED
    return "" if tag == UNDETERMINED else tag


# ── how it works ──


def _matches(typed: str, known: tuple[str, ...]) -> list[str]:
    tag = _tag_of_text(typed)
    if tag is None:
        return []
    index = _index(known)
    wanted = _key(tag)
    if found := index.get(wanted):
        return _plainest(found)
    same = [code for key, codes in index.items() if key.language == wanted.language for code in codes]
    same = same or _members(wanted.language, known)
    return same if tag.script is None and tag.territory is None else []


def _plainest(codes: list[str]) -> list[str]:
    """Of codes for the same language and script, the one that names nothing more, if there is one."""
    plain = [code for code in codes if not _split(code)[2]]
    return plain if len(plain) == 1 else codes


@lru_cache(maxsize=8)
def _index(known: tuple[str, ...]) -> dict[_Key, list[str]]:
    index: dict[_Key, list[str]] = {}
    for code in known:
        if (tag := _tag_of_code(code)) is not None:
            index.setdefault(_key(tag), []).append(code)
    return index


def _key(tag: Tag) -> _Key:
    return _Key(tag.prefer_macrolanguage().language or "", tag.script or tag.maximize().script)


def _members(macrolanguage: str, known: tuple[str, ...]) -> list[str]:
    """Languages of a macrolanguage, by the IANA registry, which knows more of them than CLDR.

    Those without a two-letter code come first: Indonesian is a Malay language too, but nobody calls it Malay.
    """
    from langcodes.data_dicts import MACROLANGUAGES

    bases = {code: tag.language or "" for code in known if (tag := _tag_of_code(code)) is not None}
    found = [code for code, base in bases.items() if MACROLANGUAGES.get(base) == macrolanguage]
    return [code for code in found if len(bases[code]) > 2] or found


def _tag_of_text(text: str) -> Tag | None:
    import langcodes

    if not text.isprintable() or not 0 < len(text) <= LONGEST:  # the data's trie fails on a NUL
        return None
    written = text.replace("_", "-")
    if langcodes.tag_is_valid(written):
        return langcodes.Language.get(written)
    try:
        return langcodes.Language.get(langcodes.find(text).to_tag())
    except LookupError:
        return None


@lru_cache(maxsize=4_000)
def _tag_of_code(code: str) -> Tag | None:
    import langcodes

    base, _, rest = _split(code)
    if not langcodes.tag_is_valid(base):
        return None
    tag = langcodes.Language.get(base)
    if rest.startswith("script_"):
        try:
            script = langcodes.Language.find_name("script", rest.removeprefix("script_"), "en").script
        except LookupError:
            return tag
    else:
        script = rest if len(rest) == 4 and langcodes.tag_is_valid(f"und-{rest}") else None
    return tag if script is None else langcodes.Language.make(language=tag.language, script=script)


def _split(code: str) -> tuple[str, str, str]:
    """The language of a code, and what follows: "cmn", "-", "script_simplified"; "cmn", "_", "Hans"."""
    at = next((at for at, char in enumerate(code) if char in "-_"), len(code))
    return code[:at], code[at : at + 1], code[at + 1 :]


def _classes(code: str, labels: tuple[str, ...]) -> tuple[int, ...]:
    base, tag = _split(code)[0], _tag_of_code(code)
    own = tuple(column for column, label in enumerate(labels) if _split(label)[0] == base)
    if own or tag is None:
        return own
    language = _key(tag).language
    return tuple(column for column, label in enumerate(labels) if _label_language(label) == language)


@lru_cache(maxsize=10_000)
def _label_language(label: str) -> str | None:
    """ "deu", "de", "deu_Latn", "German" and "de: German" all give "de"."""
    word = label.partition(":")[0].strip()
    tag = _tag_of_code(word) or _tag_of_text(word)
    return None if tag is None else _key(tag).language


def _close(typed: str, known: Sequence[str]) -> str | None:
    """A code of the same language in another script, or one that is written nearly so."""
    tag = _tag_of_text(typed)
    if tag is not None:
        language = _key(tag).language
        for key, codes in _index(tuple(known)).items():
            if key.language == language:
                return codes[0]
    return next(iter(get_close_matches(typed.casefold(), known, n=1, cutoff=0.6)), None)


def _listed(codes: Sequence[str]) -> str:
    shown = ", ".join(repr(code) for code in codes[:5])
    return f"{shown}, ..." if len(codes) > 5 else shown
