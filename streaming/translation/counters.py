"""What the translations count while they run: plain numbers that an exporter reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..engine.counters import WAITS, Histogram


@dataclass(slots=True)
class TranslationCounters:
    """Totals since the start of the thread."""

    done: Counter[str] = field(default_factory=Counter[str])  # translations, by language
    missing: Counter[str] = field(default_factory=Counter[str])  # finals without one: late, failed, dropped
    hung: int = 0  # calls of a translator that were abandoned
    busy_s: float = 0.0  # in translators
    waits: Histogram = field(default_factory=lambda: Histogram(WAITS))  # seconds, from the final to its translation
