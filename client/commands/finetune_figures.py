"""Error rates of a checkpoint on validation recordings, for the model card."""

from __future__ import annotations

from collections.abc import Sequence

from ...streaming.config import SessionConfig
from ...streaming.protocol.events import Final
from ...streaming.recognizer import Recognizer
from ...training.card import Figures
from ..bench.corpus import CorpusRecording, read_samples
from ..bench.scoring import TextNormalizer, TranscriptScores
from ..bench.steps import StepSetting, greedy_text, offline_pass, run_steps
from ..output.progress import progress


def measure(name: str, recognizer: Recognizer, recordings: Sequence[CorpusRecording]) -> Figures:
    """Greedy word error rates: one offline pass, live steps, and finals of sessions."""
    normalizer, config = TextNormalizer(recognizer.encoder.vocabulary), SessionConfig()
    setting = StepSetting(config.hop_ms, recognizer.info.lookahead_of(config), config.left_context_ms)
    offline, live, final = TranscriptScores(), TranscriptScores(), TranscriptScores()
    with progress(len(recordings)) as (advance, _):
        for recording in recordings:
            samples = read_samples(recording)
            rows = offline_pass(recognizer, samples).rows
            offline.add(normalizer, recording.text, greedy_text(recognizer, rows))
            rows = run_steps(recognizer, "cached", samples, setting).rows
            live.add(normalizer, recording.text, greedy_text(recognizer, rows))
            events = recognizer.stream(samples, config)
            finals = [event.text for event in events if isinstance(event, Final)]
            final.add(normalizer, recording.text, recognizer.encoder.vocabulary.join(finals))
            advance()
    return Figures(name, *(f"{100 * each.wer:.1f} ({each.interval})" for each in (offline, live, final)))
