"""The counter ledger: what clients sent and received, compared with the counters of the server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from xlsr_live.streaming.protocol import events as ev

PREFIX: Final = "xlsr_live_"
MIN_UTTERANCE_S: Final = 0.8  # min_speech_ms + hangover_ms: bounds the number of finals in an amount of audio
MIN_HOP_S: Final = 0.2
ROUNDING_S: Final = 0.001  # of times in events
BUSY: Final = ("overloaded", "server_full")  # errors of a healthy server under load


@dataclass(slots=True)
class Ledger:
    """Totals over all clients. The server may have counted more than the client in sessions that a client abandoned."""

    sessions: int = 0
    left: int = 0  # abandoned sessions
    resumed: int = 0
    audio_s: float = 0.0  # of completed sessions
    left_s: float = 0.0  # sent in abandoned sessions
    speech_s: float = 0.0
    utterances: int = 0
    partials: int = 0
    finals: int = 0
    errors: Counter[str] = field(default_factory=Counter[str])
    refused: int = 0

    def differences(self, metrics: Mapping[str, float]) -> list[str]:
        """How the server's counters, read after the last session, contradict this ledger or each other."""
        found = {name.removeprefix(PREFIX): value for name, value in metrics.items()}
        for label in ("errors_total", "refused_total"):  # sums over all codes
            found[label] = sum(value for name, value in found.items() if name.startswith(label + "{"))
        rounding = ROUNDING_S * (self.sessions + 2 * self.utterances)
        expected: dict[str, float] = {
            'sessions_total{"dialect": "native"}': self.sessions,
            "resumed_total": self.resumed,
            "refused_total": self.refused,
            "errors_total": sum(self.errors.values()),
            "audio_seconds_total": self.audio_s - rounding,
            "speech_seconds_total": self.speech_s - rounding,
            "finals_total": self.finals,
            "partials_total": self.partials,
            "final_lag_seconds_count": found["finals_total"],
            "partial_lag_seconds_count": found["partials_total"],
            "batch_size_sum": found["step_seconds_count"] + found["pass_seconds_count"],
            "encoded_seconds_total": found["speech_seconds_total"],
            **dict.fromkeys(("sessions_open", "queue_depth", "dropped_samples_total"), 0),
            **dict.fromkeys(("engine_failures_total", "engine_restarts_total"), 0),
        }
        tolerance: dict[str, float] = {
            "audio_seconds_total": self.left_s + 2 * rounding,
            "speech_seconds_total": self.left_s + 2 * rounding,
            "finals_total": self.left_s / MIN_UTTERANCE_S + self.left,
            "partials_total": self.left_s / MIN_HOP_S + self.left + found["partials_coalesced_total"],
            "encoded_seconds_total": float("inf"),
        }
        wrong: list[str] = []
        for name, least in expected.items():
            more = tolerance.get(name, 0.0)
            if not least <= found[name] <= least + more:
                bound = f" and at most {more:g} more" if more else ""
                wrong.append(f"{name} is {found[name]:g}, but should be {least:g}{bound}")
        return wrong

    @property
    def unexpected(self) -> list[str]:
        """Errors that a healthy server never sends."""
        return [f"{count} times the error {code}" for code, count in self.errors.items() if code not in BUSY]


class EventCounter:
    """Enters the events of one session into a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._speech_start = 0.0

    def count(self, event: ev.Event) -> None:
        ledger = self._ledger
        match event:
            case ev.SessionStarted():
                ledger.sessions += 1
            case ev.SpeechStarted(start=start):
                self._speech_start = start
            case ev.Partial():
                ledger.partials += 1
            case ev.Final():
                ledger.finals += 1
            case ev.SpeechEnded(end=end):
                ledger.utterances += 1
                ledger.speech_s += end - self._speech_start
            case ev.SessionEnded(audio_s=audio_s):
                ledger.audio_s += audio_s
            case ev.Error(code=code):
                ledger.errors[code] += 1
            case _:
                pass
