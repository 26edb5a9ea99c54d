"""Find the weights of the language model with the lowest word error rate on the validation cut.

Every pair of weights decodes the same log-probabilities (one offline pass over each clip). The mean of the corpora's
rates decides, so that the size of a corpus does not matter. The search starts from the default and moves to the best
neighbour on a grid until none is better. The result is `attrs.json` next to the n-gram, in pyctcdecode's form: alpha is
for natural logarithms, while KenLM's are decimal.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from math import log
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..score import word_errors
from .prepare import read_table
from .settings import Work

LM_STEP, WORD_STEP = 0.3, 0.75  # of the weight of the n-gram, and of the score for each word

Pair = tuple[float, float]  # weight of the n-gram, score for each word
Heard = dict[str, list[tuple[str, np.ndarray]]]  # by corpus: text and log-probabilities (frames, vocabulary)


def tune(work: Work, checkpoint: Path, validation: Path) -> dict:
    """Write WORK/lm/attrs.json; return the chosen weights and the rates (%) of all pairs."""
    from ...streaming.ctc.lm import LanguageModel, find
    from ...streaming.recognizer import Recognizer

    attributes = work.root / "lm" / "attrs.json"
    attributes.unlink(missing_ok=True)
    with Recognizer.load(str(checkpoint), device="cpu", lm="none") as recognizer:
        heard = listen(recognizer.encoder, validation)
        vocabulary = recognizer.encoder.vocabulary
    model = LanguageModel(find(work.root / "lm" / "words.binary"), vocabulary)
    table: dict[Pair, dict[str, float]] = {}
    here, before = (model.weights.lm, model.weights.word), None
    while here != before:
        before = here
        for pair in neighbours(here):
            if pair not in table:
                model.weights = replace(model.weights, lm=pair[0], word=pair[1])
                table[pair] = rates(model, heard)
                print(*pair, table[pair], flush=True)
        here = min(table, key=lambda pair: (table[pair]["mean"], pair))
    attributes.write_text(json.dumps({"alpha": here[0] / log(10), "beta": here[1]}) + "\n", encoding="utf-8")
    return {"lm": here[0], "word": here[1], "tried": [[*pair, found] for pair, found in table.items()]}


def neighbours(pair: Pair) -> list[Pair]:
    """A pair of weights and its neighbours, one step to each side."""
    steps = ((0, 0), (LM_STEP, 0), (-LM_STEP, 0), (0, WORD_STEP), (0, -WORD_STEP))
    moved = ((round(pair[0] + lm, 3), round(pair[1] + word, 3)) for lm, word in steps)
    return [(lm, word) for lm, word in moved if lm >= 0]


def listen(encoder, validation: Path) -> Heard:
    from ...client.bench.corpus import CorpusRecording, read_samples

    heard: Heard = defaultdict(list)
    for row in tqdm(read_table(validation), "listening", unit="clip"):
        if row["text"]:
            samples = read_samples(CorpusRecording(validation.parent / row["file"], row["text"]))
            (rows,) = encoder.encode([encoder.normalize(samples)])
            heard[row["set"]].append((row["text"], rows))
    return heard


def rates(model, heard: Heard) -> dict[str, float]:
    """Word error rate of each corpus, in percent, and their mean."""
    from ...streaming.ctc.beam import decode_beam

    found = {}
    for corpus, clips in heard.items():
        texts = [" ".join(word.text for word in decode_beam(rows, model)[0].words) for _, rows in clips]
        wrong = sum(word_errors(said, text) for (said, _), text in zip(clips, texts, strict=True))
        found[corpus] = round(100 * wrong / sum(len(said.split()) for said, _ in clips), 2)
    return found | {"mean": round(sum(found.values()) / len(found), 2)}
