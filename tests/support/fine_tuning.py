"""Small runs of fine-tuning."""

from __future__ import annotations

from pathlib import Path

import torch
from xlsr_live.training.recordings import Listed
from xlsr_live.training.run import FineTuneRequest, FineTuneRun

from tests.support.checkpoints import SMALL, SPECIAL

TINY = SMALL | {"num_conv_pos_embedding_groups": 2, "hidden_dropout": 0.0, "activation_dropout": 0.0}
TOKENS = (*SPECIAL, "|", *"ABCDEF")


def start(base: Path | str, out: Path, table: list[Listed], **how: object) -> FineTuneRun:
    settings = {"steps": 6, "batch_seconds": 12.0, "threads": 2, "device": "cpu", **how}
    run = FineTuneRun(FineTuneRequest(str(base), out, **settings), lambda sentence: None)
    run.look(table, None)
    run.load()
    return run


def finish(run: FineTuneRun) -> FineTuneRun:
    assert run.train(lambda position, done: None, lambda found: None, lambda: False)
    run.export()
    return run


def weights(run: FineTuneRun) -> dict[str, torch.Tensor]:
    return dict(run.tuner.learner.network.named_parameters())
