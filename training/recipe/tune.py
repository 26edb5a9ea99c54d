"""Find the weights of the language model with the lowest word error rate on the validation cut.

The weights are those of the n-gram, of each word, and of the label priors. All choices decode the same rows, from one
offline pass over each clip. The mean of the corpora's rates decides, so that the size of a corpus does not matter.
The search starts from the default and moves to the best neighbour on a grid until none is better. The result is
`attrs.json` next to the n-gram, in pyctcdecode's form (alpha is for natural logarithms, while KenLM's are decimal), and
`label_priors.json` in the checkpoint.
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

STEPS = (0.3, 0.75, 0.1)

Choice = tuple[float, float, float]  # weight of the n-gram, score for each word, scale of the label priors
START: Choice = (2.2, 1.5, 0.4)

Heard = dict[str, list[tuple[str, np.ndarray]]]  # by corpus: text and log-probabilities (frames, vocabulary)


def tune(work: Work, checkpoint: Path, validation: Path) -> dict:
    """Write WORK/lm/attrs.json and the checkpoint's label priors; return the weights and the rates (%) of all tried."""
    from ...streaming.ctc.lm import LanguageModel, find
    from ...streaming.ctc.priors import TokenPriors, save_priors
    from ...streaming.recognizer import Recognizer

    attributes = work.root / "lm" / "attrs.json"
    attributes.unlink(missing_ok=True)
    with Recognizer.load(str(checkpoint), device="cpu", lm="none") as recognizer:
        heard = listen(recognizer.encoder, validation)
        vocabulary = recognizer.encoder.vocabulary
    model = LanguageModel(find(work.root / "lm" / "words.binary"), vocabulary)
    priors = TokenPriors()
    for _, rows in (clip for clips in heard.values() for clip in clips):
        priors.add(rows)
    table: dict[Choice, dict[str, float]] = {}
    here, before = START, None
    while here != before:
        before = here
        for choice in neighbours(here):
            if choice not in table:
                model.weights = replace(model.weights, lm=choice[0], word=choice[1])
                model.priors = priors.labels(choice[2])
                table[choice] = rates(model, heard)
                print(*choice, table[choice], flush=True)
        here = min(table, key=lambda choice: (table[choice]["mean"], choice))
    attributes.write_text(json.dumps({"alpha": here[0] / log(10), "beta": here[1]}) + "\n", encoding="utf-8")
    save_priors(checkpoint, priors.labels(here[2]))
    tried = [[*choice, found] for choice, found in table.items()]
    return {"lm": here[0], "word": here[1], "priors": here[2], "tried": tried}


def neighbours(choice: Choice) -> list[Choice]:
    """A choice of weights and its neighbours, one step to each side in each weight."""
    found = [choice]
    for at, step in enumerate(STEPS):
        for moved in (choice[at] + step, choice[at] - step):
            found.append((*choice[:at], round(moved, 3), *choice[at + 1 :]))
    return [each for each in found if each[0] >= 0 and each[2] >= 0]


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
