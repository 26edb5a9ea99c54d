"""Measures of word confidence compared: `python -m tests.figures.measure_confidence MODEL TABLE TEST_TABLE`.

Not part of the test suite. A logistic map of each measure is fitted on the first table, alone and with the level of the
utterance, and tested on the second: area under the ROC curve, mean negative log-likelihood, calibration error.
Tsallis and Renyi entropies are normalised to 0 .. 1 (Laptev and Ginsburg, arXiv 2212.08703).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from xlsr_live.client.bench.corpus import read_corpus, read_samples, spoken
from xlsr_live.client.bench.scoring import TextNormalizer
from xlsr_live.client.bench.word_correctness import ScoredWords
from xlsr_live.streaming import Recognizer
from xlsr_live.streaming.ctc.calibration import level
from xlsr_live.streaming.ctc.greedy import decode
from xlsr_live.streaming.ctc.vocabulary import Vocabulary

JOINED = {"mean": np.mean, "min": np.min, "product": np.sum}  # of the logarithms over a word's tokens


def certainties(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Confidence measures of each frame, (frames,), 0 to 1."""
    p, size = np.exp(rows.astype(float)), rows.shape[1]
    found = {"max probability": p.max(axis=1)}
    for alpha in (1 / 3, 0.5, 2.0):
        power = (p**alpha).sum(axis=1)
        found[f"Tsallis {alpha:.2f}"] = 1 - (1 - power) / (1 - size ** (1 - alpha))
        found[f"Renyi {alpha:.2f}"] = 1 - np.log(power) / (1 - alpha) / np.log(size)
    return found


def measures(rows: np.ndarray, vocabulary: Vocabulary) -> dict[str, list[float]]:
    """Logarithms of each measure for each greedy word. The value of a token is that of its best frame."""
    best = rows.argmax(axis=1)
    starts = np.flatnonzero(np.append(True, best[1:] != best[:-1]))
    writes = np.array([bool(vocabulary.texts[token].strip()) for token in best[starts]])
    found: dict[str, list[float]] = defaultdict(list)
    for name, certain in certainties(rows).items():
        peaks = np.log(np.clip(np.maximum.reduceat(certain, starts), 1e-6, 1))
        for word in decode(rows, vocabulary):
            tokens = peaks[writes & (starts >= word.start) & (starts < word.end)]
            for aggregation, join in JOINED.items():
                found[f"{name}, {aggregation}"].append(float(join(tokens)))
    return found


def collect(recognizer: Recognizer, table: Path, limit: int | None) -> dict[str, ScoredWords]:
    """Greedy words of whole recordings, marked right or wrong like in `calibrate`, with each measure as their score."""
    encoder, found = recognizer.encoder, defaultdict(ScoredWords)
    normalizer = TextNormalizer(encoder.vocabulary)
    for number, recording in enumerate(spoken(read_corpus(table, limit=limit))):
        samples = read_samples(recording)
        (rows,) = encoder.encode([encoder.normalize(samples)])
        words = decode(rows, encoder.vocabulary)
        for name, values in measures(rows, encoder.vocabulary).items():
            scored = [replace(word, score=value) for word, value in zip(words, values, strict=True)]
            found[name].add(number, normalizer.words(recording.text), scored, [level(words)] * len(words))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("tables", nargs=2, type=Path)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    with Recognizer.load(options.model, device="cpu", threads=1, lm="none") as recognizer:
        train, test = (collect(recognizer, table, options.limit) for table in options.tables)
    for name in sorted(train):
        right = np.array(test[name].right)
        order = np.argsort(np.argsort(test[name].scores)) + 1
        pairs = right.sum() * (~right).sum()
        area = (order[right].sum() - right.sum() * (right.sum() + 1) / 2) / pairs
        line = f"{name:24} area {area:.3f}"
        for kind, use in (("alone", 0), ("with the level", 1)):
            fitted, tested = (
                replace(judged, levels=[use * each for each in judged.levels]) for judged in (train[name], test[name])
            )
            curve = fitted.fit()
            found = curve(np.array(tested.scores), np.array(tested.levels))
            loss = -np.log(np.clip(np.where(right, found, 1 - found), 1e-4, 1)).mean()
            line += f"; {kind}: loss {loss:.3f}, calibration error {tested.test(curve).error:.3f}"
        print(line)


if __name__ == "__main__":
    main()
