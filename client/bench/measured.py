"""What `bench accuracy` measures of one mode and setting, recording by recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...streaming.config import Mode, SessionConfig, VadName
from ...streaming.ctc.calibration import Reliability
from ...streaming.frames import SAMPLE_RATE
from ...streaming.protocol.events import Event, Final, Partial, Word
from ...streaming.recognizer import Recognizer
from ..output.latency import Latencies, in_audio, percentiles
from .corpus import Recording
from .judged import Told
from .scoring import Score, Spelling, interval, rate
from .stability import Stability, stability
from .steps import Setting, stepped, text, timed, whole


@dataclass(slots=True)
class Texts:
    """Errors of one kind of text, in the order of the recordings."""

    heard: list[str] = field(default_factory=list[str])
    words: list[Score] = field(default_factory=list[Score])
    characters: list[Score] = field(default_factory=list[Score])

    def add(self, spelling: Spelling, said: str, heard: str) -> None:
        words, characters = spelling.score(said, heard)
        self.heard.append(heard)
        self.words.append(words)
        self.characters.append(characters)

    @property
    def wer(self) -> float:
        return rate(self.words)

    @property
    def cer(self) -> float:
        return rate(self.characters)

    @property
    def interval(self) -> str:
        low, high = interval(self.words)
        return f"{100 * low:.1f} to {100 * high:.1f}"

    def report(self) -> dict[str, Any]:
        return {"wer": self.wer, "wer_95": interval(self.words), "cer": self.cer}


@dataclass(slots=True)
class Measured:
    """One row: a mode and, unless it is offline, a setting. `config` is that of its sessions."""

    mode: Mode
    setting: Setting | None
    config: SessionConfig
    live: Texts = field(default_factory=Texts)  # each recording one utterance; offline: one pass over it
    final: Texts = field(default_factory=Texts)  # of sessions, through the gate
    stability: Stability = field(default_factory=Stability)
    late: Latencies = field(default_factory=Latencies)  # of words of sessions, on the clock of the audio
    finals: Told = field(default_factory=Told)  # words of sessions and how sure they are told to be
    partials: Told = field(default_factory=Told)
    recordings: list[Recording] = field(default_factory=list[Recording])
    seconds: float = 0.0  # of audio
    frames: int = 0
    agreeing: int = 0  # frames whose most likely token is that of the pass over the whole recording
    encoded: int = 0  # frames that went through the layers
    encoder: tuple[float, float] = (0.0, 0.0)  # CPU and wall seconds, without gate and sessions
    session: float = 0.0  # CPU seconds of sessions: gate, live steps, second pass, decoding

    @property
    def agreement(self) -> float:
        return self.agreeing / max(1, self.frames)

    @property
    def passes(self) -> float:
        return self.encoded / max(1, self.frames)

    @property
    def encoder_cpu(self) -> float:
        return self.encoder[0] / self.seconds

    @property
    def session_cpu(self) -> float:
        return self.session / self.seconds

    def reliabilities(self) -> dict[str, Reliability]:
        """Of finals and partials, where there are any."""
        kinds = {"finals": self.finals.reliability(), "partials": self.partials.reliability()}
        return {name: found for name, found in kinds.items() if found}

    def report(self) -> dict[str, Any]:
        """Everything, for JSON."""
        each = zip(self.recordings, self.live.heard, self.live.words, self.final.heard, self.final.words, strict=True)
        return {
            "mode": self.mode,
            "setting_ms": self.setting and self.setting._asdict(),
            "seconds": self.seconds,
            "live": self.live.report(),
            "final": self.final.report(),
            "frames_as_offline": self.agreement,
            "passes_per_frame": self.passes,
            "words": asdict(self.stability),
            "churn": self.stability.churn,
            "revised": self.stability.revision,
            "shown_after_s": percentiles(self.late.shown),
            "committed_after_s": percentiles(self.late.committed),
            "calibration": {name: _bins(found) for name, found in self.reliabilities().items()},
            "encoder_cpu_per_s": self.encoder_cpu,
            "encoder_wall_per_s": self.encoder[1] / self.seconds,
            "session_cpu_per_s": self.session_cpu,
            "recordings": [
                {
                    "file": recording.path.name,
                    "speaker": recording.speaker,
                    "set": recording.set,
                    "said": recording.text,
                    "live": live,
                    "live_errors": live_score.errors,
                    "final": final,
                    "final_errors": final_score.errors,
                    "words": live_score.length,
                }
                for recording, live, live_score, final, final_score in each
            ],
        }


def rows(
    modes: Sequence[Mode], settings: Sequence[Setting], vad: VadName, hold_backs: Sequence[int] = ()
) -> list[Measured]:
    """A row for each setting, live mode and time that the newest word is held back, and one for offline."""
    default = SessionConfig()
    found = [
        Measured(
            mode,
            setting,
            SessionConfig(
                mode=mode,
                vad=vad,
                hop_ms=setting.hop,
                lookahead_ms=setting.lookahead,
                left_context_ms=setting.left,
                hold_back_ms=hold_back,
            ),
        )
        for hold_back in hold_backs or (default.hold_back_ms,)
        for setting in settings
        for mode in modes
        if mode != "offline"
    ]
    return found + [Measured(mode, None, SessionConfig(mode=mode, vad=vad)) for mode in modes if mode == "offline"]


def measure(
    recognizer: Recognizer, spelling: Spelling, recording: Recording, samples: NDArray[np.float32], rows: list[Measured]
) -> None:
    """Add a recording of 16 kHz samples, (n,), to all rows."""
    offline = timed(lambda: whole(recognizer, samples))
    best = offline[0].rows.argmax(1)
    for row in rows:
        mode, setting = row.mode, row.setting
        if mode == "offline" or setting is None:
            run, *taken = offline
        else:
            run, *taken = timed(lambda mode=mode, setting=setting: stepped(recognizer, mode, samples, setting))
        events, cpu, _ = timed(lambda row=row: list(recognizer.stream(samples, row.config)))
        row.recordings.append(recording)
        row.seconds += len(samples) / SAMPLE_RATE
        row.frames += len(run.rows)
        row.agreeing += int((run.rows.argmax(1) == best).sum())
        row.encoded += run.encoded
        row.encoder = row.encoder[0] + taken[0], row.encoder[1] + taken[1]
        row.session += cpu
        row.stability += stability(events)
        row.late.extend(in_audio(events))
        row.live.add(spelling, recording.text, text(recognizer, run.rows))
        finals = [event.text for event in events if isinstance(event, Final)]
        row.final.add(spelling, recording.text, recognizer.encoder.vocabulary.join(finals))
        _judge(row, spelling.words(recording.text), events)


def _judge(row: Measured, said: list[str], events: Sequence[Event]) -> None:
    """All words of all partials, each after the finals before it; and those of the finals."""
    finals: list[Word] = []
    for event in events:
        if isinstance(event, Partial):
            row.partials.add(said, event.words, before=finals)
        elif isinstance(event, Final):
            finals += event.words
    row.finals.add(said, finals)


def _bins(found: Reliability) -> dict[str, Any]:
    shown = ("confidence", "right", "words")
    return {"expected_error": found.error, **{name: getattr(found, name).tolist() for name in shown}}
