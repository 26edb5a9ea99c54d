"""Time to final against cuts inside sentences, for fixed and adaptive endpoints.

    python -m tests.figures.measure_endpoint [--limit N] [--plot docs/images/endpoint.png] [--json FILE]

Not part of the test suite. It needs the speech collection (XLSR_LIVE_SPEECH). The recordings of each speaker are one
stream, with pauses of 1 to 2.5 s between them; the long recording is played as it is, with its table of segments.
Streams run on the clock of their audio (`tests/support/audio_clock.py`).

The end of speech is where the recording's level last exceeds both 30 dB below its loud parts and 8 dB above its quiet
parts. A recording (of the long one, a segment) is split if a final ends inside it, before its last word.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jiwer
import numpy as np
import soundfile
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm
from xlsr_live.client.bench.corpus import CorpusRecording, read_corpus, read_samples
from xlsr_live.streaming import Final, Recognizer, SessionConfig, SpeechEnded, Word

from tests.support.audio_clock import RATE, AudioClock, Played
from tests.support.speech import require_speech

Float32 = NDArray[np.float32]

SETS = ("an4", "kathleen", "digits", "nonnative", "librispeech", "longform")
PAUSE_S = (1.0, 2.5)
NOISE = 10 ** (-60 / 20)
SETTINGS = {
    "fixed 600 ms": SessionConfig(),
    "adaptive": SessionConfig(endpointing="adaptive"),
    "fixed 300 ms": SessionConfig(hangover_ms=300),
    "fixed 400 ms": SessionConfig(hangover_ms=400),
    "fixed 800 ms": SessionConfig(hangover_ms=800),
    "adaptive, most 700 ms": SessionConfig(endpointing="adaptive", most_hangover_ms=700),
    "adaptive, most 1200 ms": SessionConfig(endpointing="adaptive", most_hangover_ms=1_200),
}


class Spoken(NamedTuple):
    """A recording in a stream; times in seconds of the stream."""

    start: float
    end: float
    text: str
    speech_end: float | None  # None where no pause follows


class Stream(NamedTuple):
    set: str
    samples: Float32
    spoken: list[Spoken]


@dataclass(slots=True)
class Result:
    """Of one set with one setting. Seconds."""

    texts: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # reference, recognized
    split: int = 0  # recordings with a final that ends inside
    cuts: int = 0  # finals that end inside a recording
    after_word: list[float] = field(default_factory=list[float])  # from the last word in the final to the final
    after_speech: list[float] = field(default_factory=list[float])  # from the end of speech
    played: Played = field(default_factory=Played)
    audio_s: float = 0.0

    def add(self, other: Result) -> None:
        self.texts += other.texts
        self.split += other.split
        self.cuts += other.cuts
        self.after_word += other.after_word
        self.after_speech += other.after_speech
        self.audio_s += other.audio_s
        for name in ("cpu_s", "passes", "passed_s", "outdated"):
            setattr(self.played, name, getattr(self.played, name) + getattr(other.played, name))

    @property
    def wer(self) -> float:
        references, found = zip(*self.texts, strict=True)
        return float(jiwer.process_words(list(references), list(found)).wer)

    @property
    def place(self) -> tuple[float, float]:
        """In the plot: ms to the final, per cent of recordings that are split."""
        return 1000 * float(np.median(self.after_speech)), 100 * self.split / len(self.texts)

    def report(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return {name: getattr(self, name) for name in Result.__slots__ if name != "played"} | {
            name: getattr(self.played, name) for name in ("cpu_s", "passes", "passed_s", "outdated")
        }

    def row(self) -> list[str]:
        def quantiles(values: Sequence[float]) -> str:
            return "{:.2f}, {:.2f}".format(*np.percentile(values, (50, 95))) if values else ""

        share = f"{self.split} of {len(self.texts)} ({100 * self.split / len(self.texts):.1f} %)"
        wer, cpu = f"{100 * self.wer:.1f} %", f"{self.played.cpu_s / self.audio_s:.4f}"
        passes = f"{self.played.passed_s / self.audio_s:.2f}"
        return [quantiles(self.after_word), quantiles(self.after_speech), share, str(self.cuts), wer, cpu, passes]


HEADER = (
    "| set | setting | final after the last word, p50, p95 (s) | after the end of speech | split | cuts | WER | "
    "CPU s per s | audio in full passes, s per s |"
)


def end_of_speech(samples: Float32) -> float:
    """Seconds at which the speech of a recording ends, by its level in frames of 10 ms."""
    power = np.square(samples[: len(samples) // 160 * 160].reshape(-1, 160)).mean(axis=1)
    level = 10 * np.log10(power + 1e-10)
    smooth = np.median(np.stack((level, np.roll(level, 1), np.roll(level, -1))), axis=0)
    loud = np.flatnonzero(smooth > max(np.percentile(level, 95) - 30, np.percentile(level, 10) + 8))
    return (int(loud[-1]) + 1) / 100 if len(loud) else len(samples) / RATE


def streams(limit: int | None) -> Iterator[Stream]:
    """One stream for each speaker of each set."""
    table = read_corpus(require_speech() / "test.tsv")
    for name in SETS[:-1]:
        speakers: dict[str, list[CorpusRecording]] = defaultdict(list)
        own = [each for each in table if each.path.parent.name == name]
        for recording in own[:: max(1, len(own) // limit)] if limit else own:
            speakers[recording.speaker].append(recording)
        rng = np.random.default_rng(0)
        for recordings in speakers.values():
            yield conversation(name, recordings, rng)
    yield chapter(limit)


def conversation(name: str, recordings: Sequence[CorpusRecording], rng: np.random.Generator) -> Stream:
    parts: list[Float32] = []
    spoken: list[Spoken] = []
    at = 0
    for recording in recordings:
        samples = read_samples(recording)
        pause = (NOISE * rng.standard_normal(round(RATE * rng.uniform(*PAUSE_S)))).astype(np.float32)
        start, end = at / RATE, (at + len(samples)) / RATE
        spoken.append(Spoken(start, end, recording.text, start + end_of_speech(samples)))
        parts += [samples, pause]
        at += len(samples) + len(pause)
    return Stream(name, np.concatenate(parts), spoken)


def chapter(limit: int | None) -> Stream:
    """The long recording as it is."""
    folder = require_speech() / "longform"
    (audio,), (table,) = list(folder.glob("*.flac")), list(folder.glob("*.segments.tsv"))
    samples, _ = soundfile.read(audio, dtype="float32")
    with table.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    spoken = [Spoken(float(row["start"]), float(row["end"]), row["text"], None) for row in rows[:limit]]
    return Stream("longform", samples[: round(RATE * spoken[-1].end)], spoken)


def measure(recognizer: Recognizer, stream: Stream, config: SessionConfig) -> Result:
    """Play a stream and assign each word, and each end of an utterance, to a recording."""
    played = AudioClock(recognizer, config).play(stream.samples)
    result = Result(played=played, audio_s=len(stream.samples) / RATE)
    finals = [(at, event) for at, event in played.events if isinstance(event, Final)]
    reasons = {event.utterance: event.reason for _, event in played.events if isinstance(event, SpeechEnded)}
    words: list[tuple[Word, float, bool]] = [  # with the time of the final, and whether it is the last one in it
        (word, at, word is final.words[-1] and reasons[final.utterance] == "silence")
        for at, final in finals
        for word in final.words
    ]
    for place, spoken in enumerate(stream.spoken):
        until = stream.spoken[place + 1].start if place + 1 < len(stream.spoken) else float("inf")
        own = [each for each in words if spoken.start <= (each[0].start + each[0].end) / 2 < until]
        result.texts.append((spoken.text, " ".join(word.word for word, _, _ in own)))
        cuts = sum(last for _, _, last in own[:-1])
        result.cuts += cuts
        result.split += cuts > 0
        if own and own[-1][2] and spoken.speech_end is not None:
            word, at, _ = own[-1]
            result.after_word.append(at - word.end)
            result.after_speech.append(at - spoken.speech_end)
    return result


def plot(path: Path, results: dict[str, dict[str, Result]]) -> None:
    """For each set a line from the first setting to each other one."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    first, *others = results
    for number, kind in enumerate(SETS):
        places = {name: own[kind].place for name, own in results.items() if own[kind].after_speech}
        for name in (each for each in others if each in places):
            axes.plot(*zip(places[first], places[name], strict=True), ":", color=f"C{number}")
            axes.plot(*places[name], "x", color=f"C{number}")
            axes.plot(*places[first], "o", color=f"C{number}", label=kind if name == others[0] else None)
    axes.set_xlabel(f"final after the end of speech, p50 (ms); o: {first}, x: {', '.join(others)}")
    axes.set_ylabel("recordings split (%)")
    axes.set_ylim(bottom=-1)
    axes.legend()
    figure.savefig(path, dpi=120)


def flush_latency(recognizer: Recognizer, limit: int | None) -> list[float]:
    """Seconds from a flush after every 10 s of the long recording to the final."""
    stream, found = chapter(limit), []
    at = {second * RATE for second in range(10, len(stream.samples) // RATE, 10)}
    config = SessionConfig(hangover_ms=10_000, trailing_blank_ms=0)  # only the flush ends utterances
    for when, event in AudioClock(recognizer, config).play(stream.samples, at).events:
        if isinstance(event, Final) and round(event.end * RATE) in at:
            found.append(when - event.end)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--limit", type=int, help="recordings of each set")
    parser.add_argument("--only", nargs="*", choices=SETTINGS, default=list(SETTINGS), help="none: only flushes")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path, help="written after each setting")
    options = parser.parse_args()
    results: dict[str, dict[str, Result]] = {}
    with Recognizer.load(device="cpu", threads=1, adaptive=False) as recognizer:
        played = list(streams(options.limit)) if options.only else []
        print(f"{HEADER}\n|{'---|' * 9}")
        for name in options.only:
            sets = results[name] = {kind: Result() for kind in (*SETS, "all")}
            for stream in tqdm(played, desc=name, leave=False):
                result = measure(recognizer, stream, SETTINGS[name])
                sets[stream.set].add(result)
                sets["all"].add(result)
            for kind, result in sets.items():
                print(f"| {kind} | {name} | {' | '.join(result.row())} |", flush=True)
            if options.json:
                report = {each: {kind: own.report() for kind, own in of.items()} for each, of in results.items()}
                options.json.write_text(json.dumps(report))
            if options.plot:
                plot(options.plot, results)
        flushed = flush_latency(recognizer, options.limit)
        p50, p95 = 1000 * np.percentile(flushed, (50, 95))
        print(f"{len(flushed)} flushes after 10 s of speech: final after {p50:.0f} ms (p50), {p95:.0f} ms (p95)")


if __name__ == "__main__":
    main()
