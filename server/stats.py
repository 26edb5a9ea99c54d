"""The server's counters: plain numbers on the event loop, which `operations/metrics` exports."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..streaming.engine.counters import WAITS, Histogram
from ..streaming.protocol.events import Error, Event, Final, Partial, SpeechEnded, SpeechStarted


@dataclass
class Stats:
    """Since the start of the server."""

    sessions: Counter[str] = field(default_factory=Counter[str])  # opened, by dialect
    reloads: Counter[str] = field(default_factory=Counter[str])  # by result
    resumed: int = 0  # connections that resumed a session
    moved: int = 0  # sessions of other servers that continued here
    refused: Counter[str] = field(default_factory=Counter[str])  # connections, by code
    errors: Counter[str] = field(default_factory=Counter[str])  # sent to clients, by code
    audio_s: float = 0.0  # received
    speech_s: float = 0.0  # in utterances
    partials: int = 0
    finals: int = 0
    coalesced: int = 0  # partials that a newer one replaced for slow readers
    dropped: int = 0  # accepted samples that were not recognized although the client stayed: must stay 0
    abandoned: int = 0  # samples of utterances whose client left or stopped reading before their end
    partial_lags: Histogram = field(default_factory=lambda: Histogram(WAITS))  # seconds
    final_lags: Histogram = field(default_factory=lambda: Histogram(WAITS))


class Tally:
    """Counts the events of one session."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._began = 0.0  # start of the utterance, in seconds of the session

    def event(self, event: Event) -> None:
        match event:
            case Partial(lag_ms=lag_ms):
                self._stats.partials += 1
                self._stats.partial_lags.observe(lag_ms / 1000)
            case Final(lag_ms=lag_ms):
                self._stats.finals += 1
                self._stats.final_lags.observe(lag_ms / 1000)
            case SpeechStarted(start=start):
                self._began = start
            case SpeechEnded(end=end):
                self._stats.speech_s += end - self._began
            case Error(code=code):
                self._stats.errors[code] += 1
            case _:
                pass
