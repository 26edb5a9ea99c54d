"""Live text of the packaged model without and with its language model: `python -m tests.figures.measure_partials [N]`.

At most N recordings (25) each of an4, kathleen and librispeech, in sessions with the default settings. CPU seconds are
those of this process per second of audio.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from typing import Literal

import jiwer
from xlsr_live.client.bench.corpus import CorpusRecording, read_corpus, read_samples
from xlsr_live.streaming import Final, Partial, Recognizer, SessionConfig

from tests.support.speech import require_speech

SETS = ("an4", "kathleen", "librispeech")
CHOICES: tuple[Literal["none", "finals", "all"], ...] = ("none", "finals", "all")


def changed(before: list[str], after: list[str]) -> int:
    """The number of displayed words that the next partial replaces or removes."""
    return sum(one != other for one, other in zip(before, after, strict=False)) + max(0, len(before) - len(after))


def error_rate(recordings: list[CorpusRecording], texts: list[str]) -> str:
    found = jiwer.process_words([recording.text for recording in recordings], texts)
    return f"{100 * found.wer:.1f} %"


def measure(recognizer: Recognizer, recordings: list[CorpusRecording], config: SessionConfig) -> list[str]:
    """Error rates of the last partials and of the finals, churn, committed words, CPU."""
    last, finals = list[str](), list[str]()
    churn = committed = 0
    cpu = seconds = 0.0
    for recording in recordings:
        samples = read_samples(recording)
        seconds += len(samples) / 16_000
        shown: dict[int, list[str]] = defaultdict(list)
        counts: dict[int, int] = {}
        texts: list[str] = []
        started = time.process_time()
        for event in recognizer.stream(samples, config):
            if isinstance(event, Partial):
                words = f"{event.committed} {event.volatile}".split()
                churn += changed(shown[event.utterance], words)
                shown[event.utterance], counts[event.utterance] = words, len(event.committed.split())
            elif isinstance(event, Final):
                texts.append(event.text)
        cpu += time.process_time() - started
        committed += sum(counts.values())
        last.append(" ".join(word for words in shown.values() for word in words))
        finals.append(" ".join(texts))
    rates = [error_rate(recordings, last), error_rate(recordings, finals)]
    return [*rates, str(churn), str(committed), f"{cpu / seconds:.4f}"]


def main() -> None:
    limit = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    table = read_corpus(require_speech() / "test.tsv")
    recordings = [each for name in SETS for each in [r for r in table if r.path.parent.name == name][:limit]]
    print("| `lm_for` | WER of last partials | of finals | words that changed | committed | CPU s per s |")
    print("|---|---|---|---|---|---|")
    with Recognizer.load(device="cpu", threads=1, adaptive=False) as recognizer:
        for choice in CHOICES:
            row = measure(recognizer, recordings, SessionConfig(lm_for=choice))
            print(f"| {choice} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
