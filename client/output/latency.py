"""How late words appear: pure functions on the events of a paced stream and their times of arrival.

The end of a word is its end in the final (or in a given alignment), on the clock of the listener: when a microphone
would have delivered its last sample. Each word of the final has four latencies, from its end to:

    shown       the first event with any word within 0.1 s of its place in the final
    right       the first event with this word there
    committed   the first event in which this word is committed there, or the final
    final       the final

`shown` measures how fast words appear. `right` also measures how often the second pass corrects them: a word that only
the final gets right waits for the end of its utterance.

Each utterance has two: from the end of its last word to its final (the wait of a speaker, hangover included), and from
the end of the utterance in `speech_ended` to its final (the recognizer's share of it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np

from ...streaming.protocol.events import Event, Final, Partial, SpeechEnded, Word

TOLERANCE = 0.1  # seconds between a word's place in a partial and in the final: the second pass moves it a little


@dataclass(slots=True)
class TimedEvents:
    """The events of one paced stream with their times of arrival, on any one clock, in seconds."""

    begun: float = 0.0  # when sample 0 was spoken
    events: list[tuple[float, Event]] = field(default_factory=list[tuple[float, Event]])


@dataclass(slots=True)
class Latencies:
    """Seconds, over words, utterances or partials. `extend` adds those of another stream."""

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
    """Count, percentiles and maximum; only the count where there are no values."""
    if not values:
        return {"count": 0}
    p50, p95, p99, most = (float(x) for x in np.percentile(values, (50, 95, 99, 100)))
    return {"count": len(values), "p50": p50, "p95": p95, "p99": p99, "max": most}


def word_end(word: Word) -> float:
    return word.end


def in_audio(events: Iterable[Event]) -> Latencies:
    """Latencies of a whole session on the clock of its audio: the delay by design, with an infinitely fast recognizer.

    A final counts as arriving at the end of its utterance.
    """
    timed, at = TimedEvents(), 0.0
    for event in events:
        if isinstance(event, Partial):
            at = event.audio_s
        elif isinstance(event, Final):
            at = event.end
        timed.events.append((at, event))
    return latencies(timed, cut_off=True)


def latencies(
    timed: TimedEvents,
    *,
    since: float = -inf,
    until: float = inf,
    end_of: Callable[[Word], float] = word_end,
    cut_off: bool = False,
) -> Latencies:
    """Latencies of words that end, and of partials that arrive, in `[since, until)` on the clock of `timed`.

    An utterance that the end of the stream cut off is left out unless `cut_off`. `end_of` gives the true end of a word
    of a final, in seconds of the stream.
    """
    found = Latencies()
    partials: list[tuple[float, Partial]] = []
    final: tuple[float, Final] | None = None
    for at, event in timed.events:
        match event:
            case Partial():
                partials.append((at, event))
                if since <= at < until:
                    found.lag.append(event.lag_ms / 1000)
            case Final():
                final = at, event
            case SpeechEnded():
                if final is not None and (cut_off or event.reason != "end"):
                    _add_utterance(found, timed.begun, partials, *final, event.end, since, until, end_of)
                partials, final = [], None
            case _:
                pass
    return found


def _add_utterance(
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
