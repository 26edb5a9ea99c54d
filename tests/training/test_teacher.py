"""Feature regression beside CTC, with a small Whisper of random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel
from xlsr_live.training.batch import Batch, collate
from xlsr_live.training.precision import has_bfloat16
from xlsr_live.training.recipe.settings import RATE, Guidance, Work
from xlsr_live.training.recipe.teacher import Teacher
from xlsr_live.training.recipe.train import Trainer
from xlsr_live.training.settings import Augmentation

from tests.support.small_recipe import TINY, options, weights

CPU = torch.device("cpu")
ALWAYS = Guidance(share=1.0, positions=1, measured=2)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whisper")
    torch.manual_seed(0)
    tokens = {"vocab_size": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}
    sizes = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 2), ("ffn_dim", 32))}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    WhisperModel(WhisperConfig(d_model=24, num_mel_bins=20, **sizes, **heads, **tokens)).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=20).save_pretrained(folder)
    return folder


def batch(*seconds: float) -> Batch:
    draw = np.random.default_rng(3)
    rows = [draw.standard_normal(int(RATE * each), np.float32) for each in seconds]
    return replace(collate(rows, [[1]] * len(rows), Augmentation(), draw), clean=tuple(rows))


def test_features_are_those_of_the_teacher_between_two_of_its_frames(whisper: Path):
    clip = batch(29.0)  # and a second of silence: the length that the whole model takes
    inputs = WhisperFeatureExtractor.from_pretrained(whisper)(
        0.05 * clip.clean[0], sampling_rate=RATE, return_tensors="pt"
    )
    with torch.inference_mode():
        (want,) = WhisperModel.from_pretrained(whisper).encoder(**inputs).last_hidden_state
    (got,) = Teacher(whisper, 16, CPU, ALWAYS)._features(clip.clean, clip)
    count = 1449  # frames of 29 seconds
    assert got.shape == (count, 24)
    atol = 2e-3 if has_bfloat16(CPU) else 1e-4  # values have variance 1
    assert torch.allclose(got, 0.375 * want[:count] + 0.625 * want[1 : count + 1], atol=atol)


def test_the_head_learns_what_can_be_predicted(whisper: Path):
    teacher, both = Teacher(whisper, 24, CPU, replace(ALWAYS, peak=0.03)), batch(2.0, 3.0)
    assert not teacher.measured
    teacher.measure([both])
    hidden = teacher._features(both.clean, both)
    losses = []
    for _ in range(150):
        loss = teacher.loss(hidden, both)
        (loss / 100).backward()
        teacher.update(1.0)
        teacher.head.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_padding_and_unheard_rows_cost_nothing(whisper: Path):
    teacher, both = Teacher(whisper, 16, CPU, ALWAYS), batch(2.0, 3.0)
    teacher.measure([both])
    hidden = torch.randn(2, both.masks.shape[1], 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(teacher.loss(hidden, both), hidden)
    heard = gradient.abs().sum(-1) > 0
    assert heard.sum(1).tolist() == [99, 149]
    teacher.how = replace(ALWAYS, share=0.5)
    (half,) = torch.autograd.grad(teacher.loss(hidden, both), hidden)
    (row,) = half.abs().sum((1, 2)).nonzero().flatten().tolist()
    assert torch.allclose(half[row], gradient[row], atol=1e-5 * float(gradient.abs().max()))
    teacher.how = replace(ALWAYS, share=0.0)
    assert teacher.loss(hidden, both) == 0


def test_a_run_with_a_teacher_that_is_killed_after_every_step_gives_the_same_weights(
    work: Work,
    whisper: Path,
    tmp_path: Path,
):
    guided = replace(options(), teacher=whisper, model=replace(TINY, layers=6))
    plain = Work(work.speech, tmp_path / "plain")
    again = Work(work.speech, tmp_path / "again")
    for each in (plain, again):
        each.root.mkdir()
        (each.root / "audio").symlink_to(work.audio)
    trainer = Trainer(work, guided)
    assert trainer.run()
    want = weights(work)
    while not (killed := Trainer(again, replace(guided, minutes=0))).run():
        pass
    assert trainer.teacher is not None
    assert killed.teacher is not None
    assert torch.equal(killed.teacher.head.weight, trainer.teacher.head.weight)
    got = weights(again)
    assert all(torch.equal(got[name], want[name]) for name in want)
    assert Trainer(plain, replace(guided, teacher=None)).run()  # the teacher changes the weights,
    assert any(not torch.equal(weights(plain)[name], want[name]) for name in want)
    assert Trainer(plain, replace(guided, rounds=2)).run()  # and can join later
