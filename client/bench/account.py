"""What clients sent and got, held against what the server counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ...streaming.protocol import events as ev

PREFIX: Final = "xlsr_live_"
LEAST_UTTERANCE_S: Final = 0.8  # min_speech_ms and hangover_ms: nobody has more finals than audio makes
LEAST_HOP_S: Final = 0.2
ROUNDING_S: Final = 0.001  # of times in events
BUSY: Final = ("overloaded", "server_full")  # errors of a server that does what it should


@dataclass(slots=True)
class Account:
    """Of all clients together. Of a session that left before its end the server may have heard and said more."""

    sessions: int = 0
    left: int = 0  # sessions that did
    resumed: int = 0
    audio_s: float = 0.0  # of sessions that came to their end
    left_s: float = 0.0  # sent by the others
    speech_s: float = 0.0
    utterances: int = 0
    partials: int = 0
    finals: int = 0
    errors: Counter[str] = field(default_factory=Counter[str])
    refused: int = 0

    def differences(self, metrics: Mapping[str, float]) -> list[str]:
        """In how far the server's counters, after all sessions, contradict this account or each other."""
        found = {name.removeprefix(PREFIX): value for name, value in metrics.items()}
        for label in ("errors_total", "refused_total"):  # of all codes
            found[label] = sum(value for name, value in found.items() if name.startswith(label + "{"))
        rounding = ROUNDING_S * (self.sessions + 2 * self.utterances)
        at_least: dict[str, float] = {
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
        beyond: dict[str, float] = {
            "audio_seconds_total": self.left_s + 2 * rounding,
            "speech_seconds_total": self.left_s + 2 * rounding,
            "finals_total": self.left_s / LEAST_UTTERANCE_S + self.left,
            "partials_total": self.left_s / LEAST_HOP_S + self.left + found["partials_coalesced_total"],
            "encoded_seconds_total": float("inf"),
        }
        wrong: list[str] = []
        for name, least in at_least.items():
            more = beyond.get(name, 0.0)
            if not least <= found[name] <= least + more:
                bound = f" and at most {more:g} more" if more else ""
                wrong.append(f"{name} is {found[name]:g}, but should be {least:g}{bound}")
        return wrong

    @property
    def unexpected(self) -> list[str]:
        """Errors that no healthy server tells."""
        return [f"{count} times the error {code}" for code, count in self.errors.items() if code not in BUSY]


class Ear:
    """Hears the events of one session for the account."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._began = 0.0

    def hear(self, event: ev.Event) -> None:
        account = self._account
        match event:
            case ev.SessionStarted():
                account.sessions += 1
            case ev.SpeechStarted(start=start):
                self._began = start
            case ev.Partial():
                account.partials += 1
            case ev.Final():
                account.finals += 1
            case ev.SpeechEnded(end=end):
                account.utterances += 1
                account.speech_s += end - self._began
            case ev.SessionEnded(audio_s=audio_s):
                account.audio_s += audio_s
            case ev.Error(code=code):
                account.errors[code] += 1
            case _:
                pass
