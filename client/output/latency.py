"""Latencies of words, computed from the events of a paced stream and their arrival times.

The *end of a word* is its end in the final (or in an alignment) on the listener's clock: the time at which a microphone
records its last sample. Each word of a final has four latencies, from that time to:

    shown       the first event with a word within 0.1 s of its place in the final, whatever its text
    right       the first event with this word at this place
    committed   the first event in which this word is committed at this place, or the final
    final       the final

`shown` measures speed. `right` also includes corrections by the second pass: a word that only the final has right waits
for the end of its utterance.

Each utterance has two more: from the end of its last word to its final (the speaker's wait, including the gate's
hangover), and from the end in `speech_ended` to its final (the recognizer's part of that wait).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np

from ...streaming.protocol.events import Event, Final, Partial, SpeechEnded, Word

TOLERANCE = 0.1  # seconds by which the second pass may move a word


@dataclass(slots=True)
class TimedEvents:
    """The events of one paced stream with their arrival times, in seconds on one clock."""

    begun: float = 0.0  # time of sample 0
    events: list[tuple[float, Event]] = field(default_factory=list[tuple[float, Event]])


@dataclass(slots=True)
class Latencies:
    """Seconds; lists over words, utterances or partials. `extend` adds those of another stream."""

    shown: list[float] = field(default_factory=list[float])
    right: list[float] = field(default_factory=list[float])
    committed: list[float] = field(default_factory=list[float])
    final: list[float] = field(default_factory=list[float])
    final_after_word: list[float] = field(default_factory=list[float])
    final_after_end: list[float] = field(default_factory=list[float])
    lag: list[float] = field(default_factory=list[float])  # `lag_ms` of the partials

    def extend(self, other: Latencies) -> None:
        for name in Latencies.__slots__:
            getattr(self, name).extend(getattr(other, name))

    def report(self) -> dict[str, dict[str, float]]:
        return {name: percentiles(getattr(self, name)) for name in Latencies.__slots__}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Count, percentiles and maximum; without values only the count."""
    if not values:
        return {"count": 0}
    p50, p95, p99, most = (float(x) for x in np.percentile(values, (50, 95, 99, 100)))
    return {"count": len(values), "p50": p50, "p95": p95, "p99": p99, "max": most}


def word_end(word: Word) -> float:
    return word.end


def in_audio(events: Iterable[Event]) -> Latencies:
    """Latencies of a session on the clock of its audio, as if recognition took no time.

    A final arrives at the end of its utterance.
    """
    log, at = TimedEvents(), 0.0
    for event in events:
        if isinstance(event, Partial):
            at = event.audio_s
        elif isinstance(event, Final):
            at = event.end
        log.events.append((at, event))
    return latencies(log, cut_off=True)


def latencies(
    log: TimedEvents,
    *,
    since: float = -inf,
    until: float = inf,
    end_of: Callable[[Word], float] = word_end,
    cut_off: bool = False,
) -> Latencies:
    """Latencies of words that end, and of partials that arrive, in `[since, until)` on the clock of `log`.

    An utterance that the end of the stream cuts off counts only with `cut_off`. `end_of` returns the true end of a word
    of a final, in seconds of the stream.
    """
    found = Latencies()
    partials: list[tuple[float, Partial]] = []
    final: tuple[float, Final] | None = None
    for at, event in log.events:
        match event:
            case Partial():
                partials.append((at, event))
                if since <= at < until:
                    found.lag.append(event.lag_ms / 1000)
            case Final():
                final = at, event
            case SpeechEnded():
                if final is not None and (cut_off or event.reason != "end"):
                    _utterance(found, log.begun, partials, *final, event.end, since, until, end_of)
                partials, final = [], None
            case _:
                pass
    return found


def _utterance(
    found: Latencies,
    begun: float,
    partials: Iterable[tuple[float, Partial]],
    at: float,
    final: Final,
    end: float,
    since: float,
    until: float,
    end_of: Callable[[Word], float],
) -> None:
    """Add one utterance that ended at `end` and whose final arrived at `at`."""
    seen = [(when, word) for when, partial in partials for word in partial.words]
    spoken = begun
    for word in final.words:
        spoken = begun + end_of(word)
        if not since <= spoken < until:
            continue
        there = [(when, other) for when, other in seen if _overlap(word, other)]
        same = [(when, other.committed) for when, other in there if other.word == word.word]
        found.shown.append(min((when for when, _ in there), default=at) - spoken)
        found.right.append(min((when for when, _ in same), default=at) - spoken)
        found.committed.append(min((when for when, committed in same if committed), default=at) - spoken)
        found.final.append(at - spoken)
    if since <= spoken < until:
        found.final_after_word.append(at - spoken)
        found.final_after_end.append(at - (begun + end))


def _overlap(word: Word, other: Word) -> bool:
    return other.start < word.end + TOLERANCE and other.end > word.start - TOLERANCE
