"""The head that identifies the language: its fit, the weights of its examples, and the checkpoint that it becomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification, Wav2Vec2Model
from xlsr_live.streaming.model.identifier import load_identifier
from xlsr_live.streaming.session.deciders import HeadDecider
from xlsr_live.training.recipe.multilingual.checkpoint import begin
from xlsr_live.training.recipe.multilingual.lid import SECONDS, Beginnings, Head, choose_penalty, collect, fit, save

from tests.support.checkpoints import publish
from tests.support.languages import opened
from tests.support.noise import soft_noise
from tests.support.recipe_base import LETTERS_OF_BASE, SMALL

LANGUAGES = ("deu", "eng", "spa")
TABLE = Path("train.tsv")


def clusters(count: int) -> Beginnings:
    """Means of three languages that differ in the first two of eight features, by four speakers each."""
    torch.manual_seed(0)
    means = 0.3 * torch.randn(3 * count, 8, dtype=torch.float64)
    origins = [(at % 3, TABLE, f"{at % 3} {at // 3 % 4}") for at in range(3 * count)]
    means[:, :2] += torch.tensor([[0.0, 2.0], [2.0, 0.0], [-2.0, -2.0]]).double()[[place for place, *_ in origins]]
    return Beginnings(means, origins)


def test_it_tells_languages_apart_that_differ():
    data = clusters(40)
    penalty, loss, right = choose_penalty(data, 3)
    assert right > 0.95
    assert loss < 0.2
    head = fit(data, 3, penalty)
    assert (head.logits(data.means).argmax(1) == data.languages).double().mean() > 0.95
    assert fit(data, 3, 10.0).weight.abs().max() < 0.1 * head.weight.abs().max()


def test_languages_then_tables_then_speakers_count_alike():
    other = Path("real.tsv")
    origins = [*[(0, TABLE, "a")] * 5, (0, TABLE, "b"), *[(0, other, "c")] * 2, (1, TABLE, "a")]
    weights = Beginnings(torch.zeros(len(origins), 1), origins).weights()
    assert torch.allclose(weights, torch.tensor([*[1 / 40] * 5, 1 / 8, *[1 / 8] * 2, 1 / 2]).double())


def test_beginnings_are_means_of_the_encoder(tmp_path: Path):
    base = publish(tmp_path / "base", SMALL, LETTERS_OF_BASE)
    rows = ["file\ttext\tspeaker"]
    for number in range(5):
        soundfile.write(tmp_path / f"{number}.wav", soft_noise(12_000 + number), 16_000)
        rows.append(f"{number}.wav\ta\t{'one' if number < 4 else 'two'}")
    (tmp_path / "train.tsv").write_text("\n".join(rows) + "\n")
    found = collect(str(base), {language: [tmp_path / "train.tsv"] for language in LANGUAGES}, 3)
    assert len(found.origins) == len(found.means) == len(LANGUAGES) * len(SECONDS) * 4  # three of one, one of two
    assert found.means.isfinite().all()
    assert {speaker for *_, speaker in found.origins} == {"one", "two"}


@pytest.mark.parametrize("batch", [1, 4])
def test_the_checkpoint_gives_the_probabilities_of_the_fit(tmp_path: Path, batch: int):
    base = publish(tmp_path / "base", SMALL, LETTERS_OF_BASE)
    begin(str(base), tmp_path / "many")
    torch.manual_seed(1)
    width = int(SMALL["hidden_size"])
    head = Head(
        0.1 * torch.randn(width).double(),
        0.5 + torch.rand(width).double(),
        torch.randn(3, width).double(),
        torch.randn(3).double(),
    )
    save(head, LANGUAGES, str(base), tmp_path / "lid")
    samples = soft_noise(16_000)
    with torch.inference_mode():
        encoder = Wav2Vec2Model.from_pretrained(base).eval()
        want = head.logits(encoder(torch.from_numpy(samples)[None]).last_hidden_state.mean(1).double()).softmax(1)
    identifier = load_identifier(str(tmp_path / "lid"), opened(tmp_path / "many", max_batch=batch)[0])
    assert identifier.labels == LANGUAGES
    decider = HeadDecider({language: (place,) for place, language in enumerate(LANGUAGES)})
    assert np.allclose(decider.shares(identifier.begin([samples])())[-1], want[0].numpy(), atol=5e-3)
    config = Wav2Vec2Config.from_pretrained(tmp_path / "lid")
    missing = Wav2Vec2ForSequenceClassification.from_pretrained(
        tmp_path / "lid", config=config, output_loading_info=True
    )
    assert all(name.startswith("wav2vec2.") for name in missing[1]["missing_keys"])
