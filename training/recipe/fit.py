"""Measure overfitting: WER of training sentences, without augmentation, next to that of held-out ones.

`python -m xlsr_live.training.recipe.fit --work WORK`
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch

from ..checkpoint import restore
from ..network import Network
from .data import Speech
from .export import averaged, chosen
from .score import Clip, rates, transcribe, validation
from .settings import Model, Work

CORPORA = ("kathleen", "librispeech", "an4", "speechocean762")


def trained(speech: Speech, count: int) -> list[Clip]:
    """At most `count` training utterances of each corpus."""
    clips = []
    for corpus in CORPORA:
        members = [u for u in speech.utterances if u.corpus == corpus and u.split == "train"]
        for u in random.Random(corpus).sample(members, min(count, len(members))):
            clips.append(Clip(corpus, speech.audio(u), u.text))
    return clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of the training run")
    parser.add_argument("--checkpoint", type=Path, help="a file of WORK/run (default: the one that `export` takes)")
    parser.add_argument("--count", type=int, default=60, metavar="N", help="trained sentences of each corpus")
    given = parser.parse_args()
    work = Work(Path(), given.work)
    state = restore(given.checkpoint) if given.checkpoint else chosen(work)[0][1]
    network, speech, cpu = Network(averaged([state], Model())), Speech(work), torch.device("cpu")
    known = trained(speech, given.count)
    unknown = [clip for clip in validation(speech) if clip.corpus in CORPORA]
    columns = [rates(clips, transcribe(network, clips, cpu)) for clips in (known, unknown)]
    print("| WER, % | trained | held out |\n|---|---|---|")
    for corpus in columns[0]:
        print(f"| {corpus} | {' | '.join(str(column.get(corpus, '')) for column in columns)} |")


if __name__ == "__main__":
    main()
