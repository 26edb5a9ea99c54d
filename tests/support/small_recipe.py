"""A run of the training recipe that takes seconds: noise as speech, a tiny network, a few steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from xlsr_live.training import checkpoint
from xlsr_live.training.recipe.prepare import Utterance, write_table
from xlsr_live.training.recipe.settings import RATE, Model, Options, Schedule, Work

TINY = Model(hidden=32, layers=2, heads=2, conv_dim=(8,) * 7, position_width=16)
BRIEF = Schedule(round_hours=0.004, spliced_from=99)  # a few steps
TEXTS = ("ONE TWO", "YES", "NO", "GO ON")


def noise_as_speech(folder: Path) -> Work:
    """A folder in the layout of `prepare`, with a minute of noise as speech."""
    work, draw = Work(Path("no speech"), folder), np.random.default_rng(0)
    work.audio.mkdir()
    for source, corpora in (("real", ("an4", "fsdd")), ("noise", ("noise",))):
        utterances = []
        for at in range(24):
            text = TEXTS[at % len(TEXTS)] if source == "real" else ""
            fate = "validation" if at == 0 else "train"
            corpus = corpora[at % len(corpora)]
            utterances.append(Utterance(source, at * RATE, RATE - 999 * (at % 5), corpus, f"s{at % 3}", fate, text))
        draw.normal(0, 2000, 24 * RATE).astype(np.int16).tofile(work.audio / f"{source}.i16")
        write_table(work.audio / f"{source}.tsv", utterances)
    return work


def options(rounds: int = 1, decay: int = 0, minutes: float = 1e9) -> Options:
    return Options(rounds, minutes, decay, 6.0, shards=2, evaluate_every=1, schedule=BRIEF, model=TINY)


def weights(work: Work, name: str = "stable") -> dict[str, torch.Tensor]:
    state = checkpoint.restore(work.run / f"{name}.pt")
    return state["network"] | {f"average {key}": value for key, value in state["average"]["weights"].items()}
