"""What several dialects make of their clients' wishes in the same way: none of them is refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from ...streaming.config import LONGEST_HOTWORD, MOST_CHARACTERS, MOST_HOTWORDS, SessionConfig
from ...streaming.ctc.spelling import Speller
from ...streaming.ctc.vocabulary import Vocabulary

LEAST_PAUSE_MS: Final = 300  # shorter ones are in every sentence, and a final hears one utterance


def patient(pause_ms: float, config: SessionConfig | None = None) -> SessionConfig:
    """Settings, otherwise those of `config`, with which a pause of this length ends an utterance and no shorter one."""
    config = config or SessionConfig()
    pause = round(min(max(LEAST_PAUSE_MS, pause_ms), 10_000))
    blank = max(pause, config.trailing_blank_ms)
    return msgspec.structs.replace(config, hangover_ms=pause, trailing_blank_ms=blank)


def writable(phrases: Iterable[str], vocabulary: Vocabulary) -> tuple[str, ...]:
    """Those that the model can write, as hotwords, within what a session may have."""
    speller = Speller(vocabulary)
    kept: list[str] = []
    for phrase in phrases:
        plain = " ".join(phrase.replace(":", " ").split())  # a colon would be followed by a boost
        units = speller.units(plain)
        if len(plain) > LONGEST_HOTWORD or not units or any(speller.spell(unit) is None for unit in units):
            continue
        if len(kept) < MOST_HOTWORDS and sum(map(len, kept)) + len(plain) <= MOST_CHARACTERS:
            kept.append(plain)
    return tuple(kept)
