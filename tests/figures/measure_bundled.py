"""The figures of a model card: `python -m tests.figures.measure_bundled [MODEL] [--lm PATH]`.

Prints Markdown tables of word error rates on the English test sets of the speech collection, by test set and speaker:
finals of sessions with the default settings (behind the gate), and one offline pass over each recording (over each
utterance of the table for the long one). Then the real-time factor of an offline pass. Normalizer and intervals are
those of `xlsr-live bench accuracy`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from tqdm import tqdm
from xlsr_live.client.bench.corpus import CorpusRecording, read_corpus, read_rows, read_samples
from xlsr_live.client.bench.scoring import ErrorCount, TextNormalizer, interval, rate
from xlsr_live.client.bench.steps import timed
from xlsr_live.client.bench.tables import Table, describe, machine, percent
from xlsr_live.streaming import Recognizer, SessionConfig

from tests.support.paths import SHARED

SPEECH = SHARED / "speech"
SETS = ("digits", "an4", "librispeech", "longform", "kathleen", "nonnative", "noise")
RATE = 16_000
REPEATS = 3  # of a timed pass


@dataclass(frozen=True, slots=True)
class Transcribed:
    recording: CorpusRecording
    texts: dict[str, str]  # by kind

    @property
    def set(self) -> str:
        return self.recording.path.parent.name


def parts(recording: CorpusRecording, samples: np.ndarray) -> list[np.ndarray]:
    """The inputs of the offline passes: the utterances of the table of a recording, or else the whole recording."""
    table = recording.path.with_suffix(".segments.tsv")
    if not table.exists():
        return [samples]
    return [samples[round(float(r["start"]) * RATE) : round(float(r["end"]) * RATE)] for r in read_rows(table)[1]]


def transcribe(recognizer: Recognizer, recording: CorpusRecording) -> Transcribed:
    samples = read_samples(recording)
    texts: dict[str, str] = {}
    for suffix, lm_for in (("", "none"), (", LM", "finals")) if recognizer.assets.language_model else (("", "none"),):
        config = SessionConfig(lm_for=lm_for)
        whole = [recognizer.offline(part, config) for part in parts(recording, samples)]
        texts["finals" + suffix] = " ".join(final.text for final in recognizer.transcribe(samples, config))
        texts["offline" + suffix] = " ".join(final.text for final in whole if final)
    return Transcribed(recording, texts)


def scores(transcribed: Iterable[Transcribed], kind: str, normalizer: TextNormalizer) -> list[ErrorCount]:
    return [normalizer.score(one.recording.text, one.texts[kind])[0] for one in transcribed]


def by_set(transcribed: list[Transcribed], kinds: list[str], normalizer: TextNormalizer) -> Table:
    rows: list[list[str]] = []
    for name in SETS:
        members = [one for one in transcribed if one.set == name]
        if not members:
            continue
        found = {kind: scores(members, kind, normalizer) for kind in kinds}
        words = sum(score.length for score in found["finals"])
        if words:
            low, high = interval(found["finals"])
            cells = [percent(rate(found[kind])) for kind in kinds]
            cells.insert(1, f"{100 * low:.1f} to {100 * high:.1f}" if len(members) > 1 else "")
        else:
            name, cells = f"{name}: recordings with a word", [str(sum(bool(s.errors) for s in found[k])) for k in kinds]
            cells.insert(1, "")
        rows.append([name, str(len(members)), str(words), *cells])
    columns = ["test set", "recordings", "words", kinds[0], "95 %", *kinds[1:]]
    return Table("Word error rates", columns, rows)


def groups(transcribed: list[Transcribed]) -> dict[tuple[str, str], list[Transcribed]]:
    """By test set and speaker for sets with several speakers. Names of AN4 speakers start with f or m (women, men)."""
    found: dict[tuple[str, str], list[Transcribed]] = {}
    for one in transcribed:
        if one.recording.text:
            found.setdefault((one.set, one.recording.speaker), []).append(one)
            if one.set == "an4":
                sex = {"f": "women", "m": "men"}[one.recording.speaker[0]]
                found.setdefault((one.set, sex), []).append(one)
    several = {name for name, _ in found if sum(other == name for other, _ in found) > 1}
    return {key: members for key, members in sorted(found.items()) if key[0] in several}


def by_speaker(transcribed: list[Transcribed], kinds: list[str], normalizer: TextNormalizer) -> list[Table]:
    rows: list[list[str]] = []
    rates: dict[str, dict[str, list[float]]] = {}
    for (name, group), members in groups(transcribed).items():
        found = {kind: scores(members, kind, normalizer) for kind in kinds}
        words = sum(score.length for score in found["finals"])
        rows.append([f"{name}, {group}", str(words), *(percent(rate(found[kind])) for kind in kinds)])
        if group not in ("women", "men"):
            for kind in kinds:
                rates.setdefault(name, {}).setdefault(kind, []).append(rate(found[kind]))
    spread = [
        [
            name,
            str(len(each["finals"])),
            *(" / ".join(f"{100 * f(each[k]):.1f}" for f in (min, median, max)) for k in kinds),
        ]
        for name, each in rates.items()
    ]
    return [
        Table("Speakers: best / median / worst, %", ["test set", "speakers", *kinds], spread),
        Table("By speaker", ["test set, speaker", "words", *kinds], rows),
    ]


def one_pass(recognizer: Recognizer, samples: np.ndarray) -> None:
    recognizer.encoder.encode([recognizer.encoder.normalize(samples)])


def speed(recognizer: Recognizer, recordings: list[CorpusRecording]) -> Table:
    """Wall and CPU seconds of an offline pass per second of audio: the minimum, because other load only adds time."""
    long = next(recording for recording in recordings if recording.path.parent.name == "longform")
    samples = read_samples(long)
    works: dict[str, list[np.ndarray]] = {
        "10 s": [samples[: 10 * RATE]],
        f"{len(samples) / RATE / 60:.1f} min in utterances": parts(long, samples),
    }
    rows: list[list[str]] = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for name, audio in works.items():
            seconds = sum(map(len, audio)) / RATE
            least = np.zeros(2)  # CPU and wall seconds: sums of the minima of all parts
            for part in audio:
                least += np.min([timed(partial(one_pass, recognizer, part))[1:] for _ in range(REPEATS)], axis=0)
            rows.append([name, str(threads), *(f"{value / seconds:.4f}" for value in least)])
    return Table("One offline pass: seconds for each second", ["audio", "threads", "CPU", "wall"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="bundled")
    parser.add_argument("--lm", help="file or folder of a language model")
    parser.add_argument("--speech", type=Path, default=SPEECH, help="folder of the speech collection")
    parser.add_argument("--set", dest="sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--limit", type=int, metavar="N", help="only N recordings of each set")
    parser.add_argument("--speed", action="store_true", help="only the real-time factor")
    options = parser.parse_args()
    table: Path = options.speech / "test" / "test.tsv"
    with Recognizer.load(options.model, device="cpu", threads=1, lm=options.lm or "none", adaptive=False) as recognizer:
        print(f"Model {options.model}, {recognizer.info.parameters / 1e6:.1f} M parameters, {describe(machine())}.\n")
        recordings = read_corpus(table)
        if not options.speed:
            chosen = [
                r
                for name in options.sets
                for r in [x for x in recordings if x.path.parent.name == name][: options.limit]
            ]
            transcribed = [transcribe(recognizer, recording) for recording in tqdm(chosen, unit="recording")]
            kinds = list(transcribed[0].texts)
            normalizer = TextNormalizer(recognizer.encoder.vocabulary)
            for shown in (by_set(transcribed, kinds, normalizer), *by_speaker(transcribed, kinds, normalizer)):
                print(shown.markdown())
        print(speed(recognizer, recordings).markdown())


if __name__ == "__main__":
    main()
