"""Word error rates greedy and with a language model: `python tests/measure_lm.py LM [MODEL] [--set NAME ...]`.

Not part of the test suite. Needs the speech collection ../shared/speech; rows come from one pass over each recording.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import jiwer
from test_speech import SPEECH
from xlsr_live.client.bench.corpus import read_corpus, read_samples
from xlsr_live.streaming import Recognizer
from xlsr_live.streaming.beam import LIVE_LOOK_BACK, BeamDecoder
from xlsr_live.streaming.decode import DecodedWord, decode
from xlsr_live.streaming.lm import LanguageModel, Weights, find
from xlsr_live.streaming.normalize import normalize


def beam(rows, model: LanguageModel, look_back: int | None = None) -> list[DecodedWord]:
    decoder = BeamDecoder(model, look_back=look_back)
    decoder.push(rows)
    decoder.finish()
    return decoder.words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lm", type=Path)
    parser.add_argument("model", nargs="?", default="bundled")
    parser.add_argument("--table", type=Path, default=SPEECH / "test.tsv")
    parser.add_argument("--column", default="corpus", help="column that names the set")
    parser.add_argument("--set", dest="sets", nargs="+", default=["an4", "librispeech"])
    parser.add_argument("--limit", type=int)
    parser.add_argument("--weights", nargs="+", default=[], metavar="NAME=VALUE", help="of Weights, such as lm=1.5")
    given = parser.parse_args()
    changed = {name: type(getattr(Weights(), name))(value) for name, value in (w.split("=") for w in given.weights)}
    with Recognizer.load(given.model, device="cpu", threads=1) as recognizer:
        encoder = recognizer.encoder
        files = find(given.lm)
        model = LanguageModel(replace(files, weights=replace(files.weights, **changed)), encoder.vocabulary)
        kinds = {
            "greedy": lambda rows: decode(rows, encoder.vocabulary),
            "with the LM": lambda rows: beam(rows, model),
            "with it, live look-back": lambda rows: beam(rows, model, LIVE_LOOK_BACK),
        }
        for name in given.sets:
            recordings = read_corpus(given.table, where=[f"{given.column}={name}"], limit=given.limit)
            recordings = [r for r in recordings if "longform" not in r.path.parts]
            texts: dict[str, list[str]] = {kind: [] for kind in kinds}
            taken = dict.fromkeys(kinds, 0.0)
            seconds = 0.0
            for recording in recordings:
                samples = read_samples(recording)
                seconds += len(samples) / 16_000
                (rows,) = encoder.encode([normalize(samples) if encoder.normalized else samples])
                for kind, run in kinds.items():
                    begun = time.process_time()
                    texts[kind].append(" ".join(word.text for word in run(rows)))
                    taken[kind] += time.process_time() - begun
            said = [recording.text for recording in recordings]
            for kind in kinds:
                error = jiwer.wer(said, texts[kind])
                cost = 1e3 * taken[kind] / seconds
                print(f"{name}: {kind}: WER {100 * error:.1f} %, {cost:.1f} ms of CPU per s of audio", flush=True)


if __name__ == "__main__":
    main()
