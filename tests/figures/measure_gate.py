"""Words that each gate loses, by level: `python -m tests.figures.measure_gate [--plot PNG] [--json FILE]`.

Not part of the test suite; about an hour. It needs the speech collection (XLSR_LIVE_SPEECH). Recordings are attenuated,
rounded to 16 bits and cut by each gate; each span is encoded in one pass. The reference of German recordings is the
text without a gate, because the packaged model knows only English.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm
from xlsr_live.client.bench.corpus import read_corpus, read_samples
from xlsr_live.client.bench.scoring import ErrorCount, TextNormalizer, rate
from xlsr_live.client.bench.tables import Table, percent
from xlsr_live.streaming import Recognizer, SessionConfig
from xlsr_live.streaming.audio.segmenter import Segmenter
from xlsr_live.streaming.audio.vad import CascadeVad, SileroVad, Vad, WebrtcVad
from xlsr_live.streaming.ctc.greedy import decode
from xlsr_live.streaming.frames import FIELD, SAMPLE_RATE

from tests.support.speech import require_speech

LEVELS = (0, -6, -12, -18, -24)  # dB
GATES: dict[str, Callable[[], Vad | None]] = {
    "none": lambda: None,
    "silero": SileroVad,
    "cascade": CascadeVad,
    "webrtc": WebrtcVad,
}
PACKET = 1_600  # samples


class Condition(NamedTuple):
    corpus: str
    gate: str
    level: int  # dB


@dataclass(slots=True)
class Measured:
    scores: list[ErrorCount] = field(default_factory=list)
    silent: int = 0  # recordings with words but without text
    invented: int = 0  # recordings without words but with text
    cpu_s: float = 0.0  # of the detector
    audio_s: float = 0.0


class Timed:
    """A detector that counts its CPU seconds."""

    def __init__(self, vad: Vad) -> None:
        self._vad = vad
        self.cpu_s = 0.0

    def __call__(self, frames: np.ndarray) -> list[float]:
        started = time.thread_time()
        probabilities = self._vad(frames)
        self.cpu_s += time.thread_time() - started
        return probabilities

    def reset(self) -> None:
        self._vad.reset()


class Transcriber:
    """Encodes spans, and each span only once for all gates."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._encoder = recognizer.encoder
        self._known: dict[tuple[int, int], str] = {}

    def text(self, samples: np.ndarray, vad: Vad | None) -> str:
        segmenter, spans = Segmenter(SessionConfig(), vad), []
        for at in range(0, len(samples), PACKET):
            segmenter.receive(samples[at : at + PACKET])
            while segmenter.spans and segmenter.spans[0].end is not None:
                spans.append(segmenter.spans.popleft())
            if vad is not None:
                segmenter.release()
        segmenter.finish("end")
        found = [(span.start, span.end or len(samples)) for span in (*spans, *segmenter.spans)]
        return " ".join(self._encoded(samples, start, end) for start, end in found if end - start >= FIELD).strip()

    def forget(self) -> None:
        self._known.clear()

    def _encoded(self, samples: np.ndarray, start: int, end: int) -> str:
        if (start, end) not in self._known:
            audio = samples[start:end]
            (rows,) = self._encoder.encode([self._encoder.normalize(audio)])
            words = decode(rows, self._encoder.vocabulary)
            self._known[start, end] = " ".join(word.text for word in words)
        return self._known[start, end]


def attenuated(samples: np.ndarray, level: int) -> np.ndarray:
    """Attenuate by `level` dB and round to 16 bits."""
    scaled = np.round(samples * 10 ** (level / 20) * 32_768).clip(-32_768, 32_767)
    return (scaled / 32_768).astype(np.float32)


def measure(
    recognizer: Recognizer, gates: dict[str, Callable[[], Vad | None]], levels: list[int], limit: int | None
) -> dict[Condition, Measured]:
    transcriber, normalizer = Transcriber(recognizer), TextNormalizer(recognizer.encoder.vocabulary)
    found: dict[Condition, Measured] = defaultdict(Measured)
    for recording in tqdm(read_corpus(require_speech() / "test.tsv", limit=limit), unit="recording"):
        corpus, samples = recording.path.parent.name, read_samples(recording)
        if corpus == "longform":  # exceeds the audio that a session keeps without a gate
            samples = samples[: 20 * SAMPLE_RATE]
        reference = transcriber.text(samples, None) if corpus in ("german", "longform") else recording.text
        for level in levels:
            transcriber.forget()
            quiet = attenuated(samples, level)
            for name, make in gates.items():
                vad = make()
                timed = None if vad is None else Timed(vad)
                text = transcriber.text(quiet, timed)
                one = found[Condition(corpus, name, level)]
                one.cpu_s += timed.cpu_s if timed else 0.0
                one.audio_s += len(samples) / SAMPLE_RATE
                if reference:
                    one.scores.append(normalizer.score(reference, text)[0])
                    one.silent += not text
                else:
                    one.invented += bool(text)
        transcriber.forget()
    return found


def tables(found: dict[Condition, Measured], gates: list[str], levels: list[int]) -> list[Table]:
    corpora = list(dict.fromkeys(condition.corpus for condition in found))
    spoken = [name for name in corpora if found[Condition(name, gates[0], levels[0])].scores]
    errors = [
        [
            f"{corpus}, {level} dB",
            *(percent(rate(found[Condition(corpus, gate, level)].scores)) for gate in gates),
            *(str(found[Condition(corpus, gate, level)].silent) for gate in gates),
        ]
        for corpus in spoken
        for level in levels
    ]
    noise = [
        [f"{corpus}, {level} dB", *(str(found[Condition(corpus, gate, level)].invented) for gate in gates)]
        for corpus in corpora
        if corpus not in spoken
        for level in levels
    ]
    cost = [
        [f"{corpus}, {level} dB", *(_cost(found[Condition(corpus, gate, level)]) for gate in gates)]
        for corpus in corpora
        for level in levels
    ]
    return [
        Table("Word error rate, and recordings without text", ["recordings", *gates, *gates], errors),
        Table("Recordings of noise that yield a word", ["recordings", *gates], noise),
        Table("Detector: CPU ms for each second of audio", ["recordings", *gates], cost),
    ]


def _cost(one: Measured) -> str:
    return f"{1_000 * one.cpu_s / one.audio_s:.2f}"


def plot(path: Path, found: dict[Condition, Measured], gates: list[str], levels: list[int]) -> None:
    corpora = [c for c in dict.fromkeys(x.corpus for x in found) if found[Condition(c, gates[0], levels[0])].scores]
    figure = Figure(figsize=(3 * len(corpora), 3.2), layout="constrained")
    for axes, corpus in zip(np.atleast_1d(figure.subplots(1, len(corpora))), corpora, strict=True):
        for gate in gates:
            rates = [100 * rate(found[Condition(corpus, gate, level)].scores) for level in levels]
            axes.plot(levels, rates, "o-", markersize=3, label=gate)
        axes.set_title(corpus)
        axes.set_xlabel("level (dB)")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("word error rate (%)")
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gate", dest="gates", nargs="+", choices=GATES, default=list(GATES))
    parser.add_argument("--mode", type=int, nargs="*", default=[], help="the cascade with this webrtcvad mode as well")
    parser.add_argument("--level", dest="levels", type=int, nargs="+", default=list(LEVELS))
    parser.add_argument("--limit", type=int, metavar="N", help="only N recordings, evenly from all")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    gates = {name: GATES[name] for name in options.gates}
    gates |= {f"cascade, mode {mode}": lambda mode=mode: CascadeVad(mode) for mode in options.mode}
    with Recognizer.load(device="cpu", threads=1, lm="none") as recognizer:
        found = measure(recognizer, gates, options.levels, options.limit)
    for table in tables(found, list(gates), options.levels):
        print(table.markdown())
    if options.plot:
        plot(options.plot, found, list(gates), options.levels)
    if options.json:
        lines = [
            {**condition._asdict(), "wer": rate(one.scores), "silent": one.silent, "invented": one.invented}
            | {"words": sum(score.length for score in one.scores), "cpu_s": one.cpu_s, "audio_s": one.audio_s}
            for condition, one in found.items()
        ]
        options.json.write_text(json.dumps(lines, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
