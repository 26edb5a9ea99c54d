"""Live text by hop and lookahead, for the packaged model: `python -m tests.figures.measure_steps [N] [--lm-for all]`.

At most N recordings (25) each of an4, kathleen and librispeech, in sessions that differ only in the live steps. A word
is committed so long after its end, in audio time: the position of the first partial that shows it as committed, less
its end. CPU seconds are those of this process per second of audio.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import accumulate, pairwise

import msgspec
import numpy as np
from tqdm import tqdm
from xlsr_live.client.bench.corpus import CorpusRecording, read_corpus, read_samples
from xlsr_live.streaming import Final, Partial, Recognizer, SessionConfig

from tests.figures.measure_partials import SETS, changed, error_rate
from tests.support.speech import require_speech

STEPS = ((480, 480), (320, 320), (320, 240), (240, 240), (160, 240), (320, 480), (480, 240), (160, 320))  # ms


def committed_after(partials: Sequence[Partial]) -> list[float]:
    """Seconds of audio from the end of each committed word of one utterance to the partial that commits it."""
    counts = [0, *accumulate((sum(word.committed for word in each.words) for each in partials), max)]
    return [
        partial.audio_s - word.end
        for partial, known in zip(partials, counts, strict=False)
        for word in partial.words[known:]
        if word.committed
    ]


def measure(recognizer: Recognizer, recordings: Sequence[CorpusRecording], config: SessionConfig) -> list[str]:
    """Error rates of committed text, of the last partials and of finals, churn, committed words, CPU."""
    live, last, finals = list[str](), list[str](), list[str]()
    waits: list[float] = []
    churn = words = 0
    cpu = seconds = 0.0
    for recording in tqdm(recordings, leave=False):
        samples = read_samples(recording)
        seconds += len(samples) / 16_000
        started = time.process_time()
        events = list(recognizer.stream(samples, config))
        cpu += time.process_time() - started
        utterances: dict[int, list[Partial]] = {}
        for event in events:
            if isinstance(event, Partial):
                utterances.setdefault(event.utterance, []).append(event)
        texts = [event.text for event in events if isinstance(event, Final)]
        for partials in utterances.values():
            waits += committed_after(partials)
            shown = [f"{each.committed} {each.volatile}".split() for each in partials]
            churn += sum(changed(before, after) for before, after in pairwise(shown))
        live.append(" ".join(partials[-1].committed for partials in utterances.values()))
        last.append(" ".join(f"{each[-1].committed} {each[-1].volatile}" for each in utterances.values()))
        finals.append(" ".join(texts))
        words += sum(len(text.split()) for text in texts)
    share = f"{sum(len(text.split()) for text in live)} of {words}"
    p50, p95 = np.percentile(waits, (50, 95))
    rates = [error_rate(list(recordings), last), error_rate(list(recordings), finals)]
    return [f"{p50:.2f}, {p95:.2f}", share, *rates, f"{churn / words:.3f}", f"{cpu / seconds:.4f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("limit", nargs="?", type=int, default=25)
    parser.add_argument("--lm-for", choices=("all", "finals"), default="all")
    options = parser.parse_args()
    table = read_corpus(require_speech() / "test.tsv")
    sets = [[each for each in table if each.path.parent.name == name] for name in SETS]
    recordings = [each for own in sets for each in own[: options.limit]]
    print("| hop, lookahead (ms) | committed after, p50, p95 (s) | words committed before the final | ", end="")
    print("WER of last partials | of finals | churn | CPU s per s |\n|---|---|---|---|---|---|---|")
    with Recognizer.load(device="cpu", threads=1, adaptive=False) as recognizer:
        for hop, lookahead in STEPS:
            config = msgspec.structs.replace(SessionConfig(lm_for=options.lm_for), hop_ms=hop, lookahead_ms=lookahead)
            print(f"| {hop}, {lookahead} | {' | '.join(measure(recognizer, recordings, config))} |", flush=True)


if __name__ == "__main__":
    main()
