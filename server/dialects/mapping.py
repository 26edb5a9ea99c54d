"""Client settings that several dialects map in the same way. Impossible values are adapted, never refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from ...streaming.config import LONGEST_HOTWORD, MOST_CHARACTERS, MOST_HOTWORDS, SessionConfig
from ...streaming.ctc.spelling import Speller
from ...streaming.ctc.vocabulary import Vocabulary

LEAST_PAUSE_MS: Final = 300  # shorter pauses are in every sentence, and would cut it into several utterances


def with_pause(pause_ms: float, config: SessionConfig | None = None) -> SessionConfig:
    """`config` changed so that a pause of this length, and no shorter one, ends an utterance."""
    config = config or SessionConfig()
    pause = round(min(max(LEAST_PAUSE_MS, pause_ms), 10_000))
    blank = max(pause, config.trailing_blank_ms)
    return msgspec.structs.replace(config, hangover_ms=pause, trailing_blank_ms=blank)


def writable(phrases: Iterable[str], vocabulary: Vocabulary) -> tuple[str, ...]:
    """The phrases that the model can write, as hotwords, up to a session's limits."""
    speller = Speller(vocabulary)
    kept: list[str] = []
    for phrase in phrases:
        plain = " ".join(phrase.replace(":", " ").split())  # after a colon a hotword has its boost
        if len(plain) > LONGEST_HOTWORD or not speller.writes(plain):
            continue
        if len(kept) < MOST_HOTWORDS and sum(map(len, kept)) + len(plain) <= MOST_CHARACTERS:
            kept.append(plain)
    return tuple(kept)
