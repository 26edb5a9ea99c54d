"""How late words come: pure functions on what a paced stream said and when.

The *end of a word* is where the final says that it ends (or a given alignment), on the clock of the listener: when its
last sample would have left a microphone. Four moments of a word of the final are told, each minus its end:

    shown       the first event with a word within 0.1 s of its place in the final, whatever its text
    right       the first with this word there
    committed   the first in which this word is committed there, or the final
    final       the final

`shown` says how fast words come, `right` also how often the second pass corrects them: a word that only the final gets
right waits for the end of its utterance.

and two of each utterance: its final minus the end of its last word (what a speaker waits, with the gate's hangover),
and its final minus the utterance's end as `speech_ended` tells it (what of this is the recognizer's).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np

from ...streaming.protocol.events import Event, Final, Partial, SpeechEnded, Word

TOLERANCE = 0.1  # seconds between the place of a word in a partial and in the final: the second pass moves it a little


@dataclass(slots=True)
class TimedEvents:
    """One paced stream. Times on any one clock, in seconds."""

    begun: float = 0.0  # when sample 0 was spoken
    events: list[tuple[float, Event]] = field(default_factory=list[tuple[float, Event]])


@dataclass(slots=True)
class Latencies:
    """Seconds, except `lag`; lists over words, utterances or partials. `extend` adds those of another stream."""

    shown: list[float] = field(default_factory=list[float])
    right: list[float] = field(default_factory=list[float])
    committed: list[float] = field(default_factory=list[float])
    final: list[float] = field(default_factory=list[float])
    final_after_word: list[float] = field(default_factory=list[float])
    final_after_end: list[float] = field(default_factory=list[float])
    lag: list[float] = field(default_factory=list[float])  # seconds from the arrival of a partial's audio, as it says

    def extend(self, other: Latencies) -> None:
        for name in Latencies.__slots__:
            getattr(self, name).extend(getattr(other, name))

    def report(self) -> dict[str, dict[str, float]]:
        return {name: percentiles(getattr(self, name)) for name in Latencies.__slots__}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Count, percentiles and maximum; of nothing, the count alone."""
    if not values:
        return {"count": 0}
    p50, p95, p99, most = (float(x) for x in np.percentile(values, (50, 95, 99, 100)))
    return {"count": len(values), "p50": p50, "p95": p95, "p99": p99, "max": most}


def word_end(word: Word) -> float:
    return word.end


def in_audio(events: Iterable[Event]) -> Latencies:
    """Of a whole session, on the clock of its audio: what a word waits for by design, with a recognizer that takes no
    time. A final comes with the end of its utterance here.
    """
    heard, at = TimedEvents(), 0.0
    for event in events:
        if isinstance(event, Partial):
            at = event.audio_s
        elif isinstance(event, Final):
            at = event.end
        heard.events.append((at, event))
    return latencies(heard, cut_off=True)


def latencies(
    heard: TimedEvents,
    *,
    since: float = -inf,
    until: float = inf,
    end_of: Callable[[Word], float] = word_end,
    cut_off: bool = False,
) -> Latencies:
    """Of words that end, and partials that come, in `[since, until)` on the clock of `heard`.

    An utterance that the end of the stream cut off is left out, unless `cut_off`: no listener waits for it. `end_of`
    gives the true end of a word of a final, in seconds of the stream.
    """
    found = Latencies()
    partials: list[tuple[float, Partial]] = []
    final: tuple[float, Final] | None = None
    for at, event in heard.events:
        match event:
            case Partial():
                partials.append((at, event))
                if since <= at < until:
                    found.lag.append(event.lag_ms / 1000)
            case Final():
                final = at, event
            case SpeechEnded():
                if final is not None and (cut_off or event.reason != "end"):
                    _utterance(found, heard.begun, partials, *final, event.end, since, until, end_of)
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
    """Add one utterance, which ended at `end` and whose final came at `at`."""
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
