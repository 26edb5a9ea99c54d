"""How much the language model counts: the weights with the lowest word error rate on the validation cut.

Every pair of the grid decodes the same log-probabilities (one pass over each clip, as a final has it), and the mean of
the corpora's rates decides, so that no corpus counts for its length. What is chosen lies beside the n-gram as
`attrs.json`, in the form of pyctcdecode: alpha is of natural logarithms, where KenLM's are decimal.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from itertools import product
from math import log
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .prepare import read_table
from .settings import Work
from .text import word_errors

LM_WEIGHTS = (0.8, 1.2, 1.6, 2.0, 2.4, 2.8)
WORD_SCORES = (-1.0, 0.0, 1.0, 2.0, 3.0)

Heard = dict[str, list[tuple[str, np.ndarray]]]  # by corpus: what is said, and log-probabilities (frames, vocabulary)


def tune(work: Work, checkpoint: Path, validation: Path) -> dict:
    """Write WORK/lm/attrs.json; what was chosen, and the rates (%) of all pairs."""
    from xlsr_live.streaming.lm import LanguageModel, find
    from xlsr_live.streaming.recognizer import Recognizer

    attributes = work.root / "lm" / "attrs.json"
    attributes.unlink(missing_ok=True)
    with Recognizer.load(str(checkpoint), device="cpu", lm="none") as recognizer:
        heard = listen(recognizer.encoder, validation)
        vocabulary = recognizer.encoder.vocabulary
    model = LanguageModel(find(work.root / "lm" / "words.binary"), vocabulary)
    weights, table = model.weights, []
    for lm, word in tqdm(list(product(LM_WEIGHTS, WORD_SCORES)), "weights", unit="pair"):
        model.weights = replace(weights, lm=lm, word=word)
        found = rates(model, heard)
        table.append({"lm": lm, "word": word, "mean": round(sum(found.values()) / len(found), 2), **found})
    best = min(table, key=lambda row: (row["mean"], row["lm"]))
    attributes.write_text(json.dumps({"alpha": best["lm"] / log(10), "beta": best["word"]}) + "\n", encoding="utf-8")
    return {"best": best, "table": table}


def listen(encoder, validation: Path) -> Heard:
    from xlsr_live.client.bench.corpus import Recording, read_samples
    from xlsr_live.streaming.normalize import normalize

    heard: Heard = defaultdict(list)
    for row in tqdm(read_table(validation), "listening", unit="clip"):
        if row["text"]:
            samples = read_samples(Recording(validation.parent / row["file"], row["text"]))
            (rows,) = encoder.encode([normalize(samples) if encoder.normalized else samples])
            heard[row["set"]].append((row["text"], rows))
    return heard


def rates(model, heard: Heard) -> dict[str, float]:
    """Word error rate of each corpus, in percent."""
    from xlsr_live.streaming.beam import decode_beam

    found = {}
    for corpus, clips in heard.items():
        texts = [" ".join(word.text for word in decode_beam(rows, model)[0].words) for _, rows in clips]
        wrong = sum(word_errors(said, text) for (said, _), text in zip(clips, texts, strict=True))
        found[corpus] = round(100 * wrong / sum(len(said.split()) for said, _ in clips), 2)
    return found
