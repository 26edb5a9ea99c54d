"""The measurements of `bench accuracy` for one mode and setting, recording by recording."""

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
from .corpus import CorpusRecording
from .scoring import TextNormalizer, TranscriptScores
from .stability import Stability, stability
from .steps import StepSetting, greedy_text, offline_pass, run_steps, timed
from .word_correctness import ReportedWords


@dataclass(slots=True)
class AccuracyRow:
    """A mode with a setting, or the offline mode. `config` is the configuration of its sessions."""

    mode: Mode
    setting: StepSetting | None
    config: SessionConfig
    live: TranscriptScores = field(default_factory=TranscriptScores)  # each recording one utterance, without a gate
    final: TranscriptScores = field(default_factory=TranscriptScores)  # of sessions, through the gate
    stability: Stability = field(default_factory=Stability)
    latencies: Latencies = field(default_factory=Latencies)  # of sessions, on the clock of the audio
    finals: ReportedWords = field(default_factory=ReportedWords)
    partials: ReportedWords = field(default_factory=ReportedWords)
    recordings: list[CorpusRecording] = field(default_factory=list[CorpusRecording])
    seconds: float = 0.0  # of audio
    frames: int = 0
    agreeing: int = 0  # frames with the same most likely token as the offline pass
    encoded: int = 0  # frames computed by the encoder layers, with repetitions
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
        """Reliability of finals and of partials, without empty ones."""
        kinds = {"finals": self.finals.reliability(), "partials": self.partials.reliability()}
        return {name: found for name, found in kinds.items() if found}

    def report(self) -> dict[str, Any]:
        """All results, for JSON."""
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
            "shown_after_s": percentiles(self.latencies.shown),
            "committed_after_s": percentiles(self.latencies.committed),
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
                for recording, live, live_score, final, final_score in zip(
                    self.recordings, self.live.texts, self.live.words, self.final.texts, self.final.words, strict=True
                )
            ],
        }


def make_rows(
    modes: Sequence[Mode], settings: Sequence[StepSetting], vad: VadName, hold_backs: Sequence[int] = ()
) -> list[AccuracyRow]:
    """A row for each hold-back time, setting and live mode, and one for offline."""
    default = SessionConfig()
    live = [
        AccuracyRow(
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
    return live + [AccuracyRow(mode, None, SessionConfig(mode=mode, vad=vad)) for mode in modes if mode == "offline"]


def measure(
    recognizer: Recognizer,
    normalizer: TextNormalizer,
    recording: CorpusRecording,
    samples: NDArray[np.float32],
    rows: list[AccuracyRow],
) -> None:
    """Add a recording of 16 kHz samples, (n,), to all rows."""
    offline = timed(lambda: offline_pass(recognizer, samples))
    best = offline[0].rows.argmax(1)
    for row in rows:
        mode, setting = row.mode, row.setting
        if mode == "offline" or setting is None:
            run, *taken = offline
        else:
            run, *taken = timed(lambda mode=mode, setting=setting: run_steps(recognizer, mode, samples, setting))
        events, cpu, _ = timed(lambda row=row: list(recognizer.stream(samples, row.config)))
        row.recordings.append(recording)
        row.seconds += len(samples) / SAMPLE_RATE
        row.frames += len(run.rows)
        row.agreeing += int((run.rows.argmax(1) == best).sum())
        row.encoded += run.encoded
        row.encoder = row.encoder[0] + taken[0], row.encoder[1] + taken[1]
        row.session += cpu
        row.stability += stability(events)
        row.latencies.extend(in_audio(events))
        row.live.add(normalizer, recording.text, greedy_text(recognizer, run.rows))
        finals = [event.text for event in events if isinstance(event, Final)]
        row.final.add(normalizer, recording.text, recognizer.encoder.vocabulary.join(finals))
        _add_reported_words(row, normalizer.words(recording.text), events)


def _add_reported_words(row: AccuracyRow, reference: list[str], events: Sequence[Event]) -> None:
    """Add the words of the finals, and those of every partial, aligned after the earlier finals."""
    finals: list[Word] = []
    for event in events:
        if isinstance(event, Partial):
            row.partials.add(reference, event.words, before=finals)
        elif isinstance(event, Final):
            finals += event.words
    row.finals.add(reference, finals)


def _bins(found: Reliability) -> dict[str, Any]:
    names = ("confidence", "right", "words")
    return {"expected_error": found.error, **{name: getattr(found, name).tolist() for name in names}}
