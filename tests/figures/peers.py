"""xlsr-live beside what else one would run on the same machine: `python -m tests.figures.peers --out FILE.jsonl`.

Not part of the test suite. It needs the speech collection (XLSR_LIVE_SPEECH), and for the others

    pip install faster-whisper pocketsphinx

Whisper is the official base model in int8; `--whisper` names a folder with it where no download is possible. What is
not installed is left out by name. Each recording is a stream with a pause before and after it, and all recognizers take
it in turn, on the clock of its audio (`peer_systems.py`). The results of each recording are a line of FILE, and a run
that is interrupted continues there. Then the tables are printed, and with `--plots DIR` drawn.

The selection is fixed: of each set the first `--limit` recordings in the order of the CRC-32 of their names (the noise
clips all). So a run with a higher limit adds to one with a lower.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer
from xlsr_live.client.bench.corpus import CorpusRecording, read_corpus, read_samples

from tests.figures.measure_endpoint import end_of_speech
from tests.figures.peer_plots import draw
from tests.figures.peer_systems import MissingPeer, Peer, open_peers
from tests.support.audio_clock import RATE
from tests.support.speech import require_speech

SETS = ("an4", "digits", "kathleen", "librispeech", "nonnative", "noise")
NAMES = (
    "xlsr-live",
    "xlsr-live, offline",
    "whisper",
    "whisper, offline",
    "whisper, offline, VAD filter",
    "pocketsphinx",
)
BEFORE_S, AFTER_S = 0.5, 2.0  # pauses around a recording
PAUSE = 10 ** (-60 / 20)
NORMALIZER = EnglishTextNormalizer({})


@dataclass(slots=True)
class Line:
    """One recording by one recognizer. Seconds; latencies only where it was played live."""

    set: str
    file: str
    peer: str
    reference: str
    text: str
    stream_s: float
    cpu_s: float
    first: float | None  # from the beginning of speech to any text
    committed: list[float] = field(default_factory=list[float])  # from the end of each word to its certainty
    final: float | None = None  # from the end of speech to the last final


def comparable(text: str) -> str:
    """The form in which texts are compared: Whisper's own normal form, with single digits, and spelled words joined.

    "TWO NINE" and "29", "E R I N" and "Erin" are equal.
    """
    zeros = re.sub(r"\b(0+)(?=\d)", lambda found: " ".join(found[1]) + " ", text)  # it would drop them
    digits = re.sub(r"(\d)", r" \1 ", re.sub(r"\bone\b", "1", NORMALIZER(zeros)))
    return re.sub(r"\b[a-z](?: [a-z])+\b", lambda found: found[0].replace(" ", ""), " ".join(digits.split()))


def selection(sets: Sequence[str], limit: int) -> list[CorpusRecording]:
    """Sets in turn, so that an interrupted run has as much of each; the noise clips come last."""
    table = sorted(read_corpus(require_speech() / "test.tsv"), key=lambda each: zlib.crc32(each.path.name.encode()))
    own = {name: [each for each in table if each.path.parent.name == name] for name in sets}
    noise = own.pop("noise", [])
    return [each[place] for place in range(limit) for each in own.values() if place < len(each)] + noise


def stream(recording: CorpusRecording) -> tuple[NDArray[np.float32], float, float]:
    """The recording between pauses, and the seconds at which its speech begins and ends."""
    samples = read_samples(recording)
    rng = np.random.default_rng(0)
    before, after = ((PAUSE * rng.standard_normal(round(RATE * s))).astype(np.float32) for s in (BEFORE_S, AFTER_S))
    begin = BEFORE_S + len(samples) / RATE - end_of_speech(samples[::-1])
    return np.concatenate((before, samples, after)), begin, BEFORE_S + end_of_speech(samples)


def measure(name: str, peer: Peer, recording: CorpusRecording) -> Line:
    samples, begin, end = stream(recording)
    run = peer(samples)
    kind = recording.path.parent.name
    line = Line(kind, recording.path.name, name, recording.text, run.text, len(samples) / RATE, run.cpu_s, None)
    if run.first is not None:
        line.first = run.first - begin
    if run.finals:
        line.final = run.finals[-1] - end
        line.committed = [word.committed - word.end for word in run.words]
    return line


# ── the file of results ──


def read(path: Path, setup: dict[str, Any]) -> list[Line]:
    """What an earlier run with the same settings has measured."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(setup) + "\n")
        return []
    written = path.read_text()
    whole = written[: written.rindex("\n") + 1]
    if whole != written:  # an interruption cut off the last line
        path.write_text(whole)
    first, *rest = whole.splitlines()
    if json.loads(first) != setup:
        raise SystemExit(f"{path} has the results of other settings ({first}): choose another --out, or remove it")
    return [Line(**json.loads(line)) for line in rest]


def run(options: argparse.Namespace) -> list[Line]:
    lines = read(options.out, {"whisper": options.whisper, "pauses": [BEFORE_S, AFTER_S]})
    recordings = selection(options.sets, options.limit)
    if not options.report:
        complete(options, recordings, lines)
    wanted = {(each.path.parent.name, each.path.name) for each in recordings}
    return comparable_lines([x for x in lines if x.peer in options.only and (x.set, x.file) in wanted])


def comparable_lines(lines: Sequence[Line]) -> list[Line]:
    """Without speech that only some of the recognizers have taken yet. Noise clips have a count for each of them."""
    peers = {line.peer for line in lines}
    taken = Counter((line.set, line.file) for line in lines)
    return [line for line in lines if line.set == "noise" or taken[line.set, line.file] == len(peers)]


def complete(options: argparse.Namespace, recordings: Sequence[CorpusRecording], lines: list[Line]) -> None:
    """Measure what is missing; add it to `lines` and to the file."""
    done = {(line.peer, line.set, line.file) for line in lines}
    with open_peers(options.only, options.whisper) as found, options.out.open("a") as out:
        peers: dict[str, Peer] = {}
        for name, peer in found.items():
            if isinstance(peer, MissingPeer):
                print(f"{name} is left out: {peer}", file=sys.stderr)
                continue
            peers[name] = peer
            peer(stream(recordings[0])[0])  # so that no figure has what only the first run costs
        for recording in tqdm(recordings, unit="recording"):
            key = recording.path.parent.name, recording.path.name
            for name in (each for each in peers if (each, *key) not in done):
                line = measure(name, peers[name], recording)
                out.write(json.dumps(asdict(line)) + "\n")
                out.flush()
                lines.append(line)


# ── the tables ──


def error_rate(lines: Sequence[Line]) -> float:
    found = jiwer.process_words([comparable(one.reference) for one in lines], [comparable(one.text) for one in lines])
    return 100 * float(found.wer)


def cost(lines: Sequence[Line]) -> float:
    """CPU seconds for each second of the streams."""
    return sum(line.cpu_s for line in lines) / sum(line.stream_s for line in lines)


def quantiles(values: Sequence[float]) -> str:
    return "{:.2f}, {:.2f}".format(*np.percentile(values, (50, 95))) if values else ""


def tables(lines: Sequence[Line]) -> Iterator[str]:
    peers = {name: own for name in NAMES if (own := [line for line in lines if line.peer == name])}
    spoken = [name for name in SETS if name != "noise" and any(line.set == name for line in lines)]
    words = {name: sum(len(comparable(x.reference).split()) for x in lines if x.set == name) for name in spoken}
    shares = {name: words[name] // len({x.peer for x in lines if x.set == name}) for name in spoken}
    yield "| WER | " + " | ".join(f"{name} ({shares[name]:,} words)" for name in spoken) + " | noise clips with text |"
    yield "|" + "---|" * (len(spoken) + 2)
    for name, own in peers.items():
        rates = [f"{error_rate(part):.1f} %" if (part := [x for x in own if x.set == s]) else "" for s in spoken]
        noise = [line for line in own if line.set == "noise"]
        told = f"{sum(bool(x.text) or x.first is not None for x in noise)} of {len(noise)}" if noise else ""
        yield f"| {name} | {' | '.join(rates)} | {told} |"
    yield ""
    yield (
        "| of speech | CPU s per s | streams in two cores' CPU | first text, p50, p95 (s) | committed after a word "
        "| final after the end of speech |"
    )
    yield "|" + "---|" * 6
    for name, own in peers.items():
        speech = [line for line in own if line.set != "noise"]
        if not speech:
            continue
        live = any(line.final is not None for line in speech)
        first = quantiles([line.first for line in speech if line.first is not None])
        committed = quantiles([each for line in speech for each in line.committed])
        final = quantiles([line.final for line in speech if line.final is not None])
        streams = f"{2 / cost(speech):.1f}" if live else ""
        yield f"| {name} | {cost(speech):.3f} | {streams} | {first} | {committed} | {final} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file of results, JSON lines")
    parser.add_argument("--whisper", default="Systran/faster-whisper-base", metavar="NAME_OR_DIR")
    parser.add_argument("--limit", type=int, default=15, help="recordings of each set")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), metavar="PEER", help=", ".join(NAMES))
    parser.add_argument("--report", action="store_true", help="measure nothing: only what FILE already has")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw peers-cost.png and peers-latency.png there")
    options = parser.parse_args()
    lines = run(options)
    print("\n".join(tables(lines)))
    if options.plots:
        speech = [line for line in lines if line.set != "noise"]
        live = {name: own for name in NAMES if (own := [x for x in speech if x.peer == name])}
        draw(
            options.plots,
            {name: (cost(own), error_rate(own)) for name, own in live.items()},
            {
                name: {
                    "first text": [x.first for x in own if x.first is not None],
                    "committed": [each for x in own for each in x.committed],
                    "final": [x.final for x in own if x.final is not None],
                }
                for name, own in live.items()
                if any(x.final is not None for x in own)
            },
            f"n = {len({(x.set, x.file) for x in speech})} recordings",
        )


if __name__ == "__main__":
    main()
