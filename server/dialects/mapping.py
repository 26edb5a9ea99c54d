"""Client settings that several dialects map in the same way. Impossible values are adapted, never refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from ...streaming.config import AUTO, LONGEST_HOTWORD, MOST_CHARACTERS, MOST_HOTWORDS, SessionConfig
from ...streaming.ctc.spelling import Speller
from ...streaming.ctc.vocabulary import Vocabulary
from ...streaming.errors import ConfigError

if TYPE_CHECKING:
    from ...streaming.recognizer import Recognizer

LEAST_PAUSE_MS: Final = 300  # shorter pauses are in every sentence, and would cut it into several utterances


def with_pause(pause_ms: float, config: SessionConfig | None = None) -> SessionConfig:
    """`config` changed so that a pause of this length, and no shorter one, ends an utterance."""
    config = config or SessionConfig()
    pause = round(min(max(LEAST_PAUSE_MS, pause_ms), 10_000))
    blank = max(pause, config.trailing_blank_ms)
    return msgspec.structs.replace(config, hangover_ms=pause, trailing_blank_ms=blank)


def with_language(
    config: SessionConfig,
    recognizer: Recognizer,
    language: str | None,
    allowed: Sequence[str] = (),
    *,
    auto: bool = False,
) -> SessionConfig:
    """`config` with the language that the client names, with one of several `allowed`, or with the server's `auto`.

    A model that does not have several ignores all of this: many clients always name a language. Raises `ConfigError`.
    """
    if not recognizer.languages.known:
        return config
    if len(allowed) > 1:
        return msgspec.structs.replace(config, language=AUTO, allowed_languages=tuple(allowed))
    if allowed or (language and not auto):
        return msgspec.structs.replace(config, language=allowed[0] if allowed else language)
    if auto and not recognizer.languages.identifies:
        raise ConfigError("this server identifies no languages by itself: name two to ten that may occur, or one")
    return config


def hotwords(phrases: Iterable[str], recognizer: Recognizer, config: SessionConfig) -> tuple[str, ...]:
    """The phrases that the model can write in a language of the session. Raises `ConfigError` for a language that it
    lacks."""
    if not (phrases := list(phrases)):
        return ()
    codes = recognizer.languages.codes(config.language, config.allowed_languages)
    return writable(phrases, *map(recognizer.languages.vocabulary, codes))


def writable(phrases: Iterable[str], *vocabularies: Vocabulary) -> tuple[str, ...]:
    """The phrases that at least one vocabulary can write, as hotwords, up to a session's limits."""
    spellers = [Speller(vocabulary) for vocabulary in vocabularies]
    kept: list[str] = []
    for phrase in phrases:
        plain = " ".join(phrase.replace(":", " ").split())  # after a colon a hotword has its boost
        if len(plain) > LONGEST_HOTWORD or not any(speller.writes(plain) for speller in spellers):
            continue
        if len(kept) < MOST_HOTWORDS and sum(map(len, kept)) + len(plain) <= MOST_CHARACTERS:
            kept.append(plain)
    return tuple(kept)
