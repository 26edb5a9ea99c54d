"""Speech to text on a random checkpoint in the published layout: languages in one batch, padding, bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from xlsr_live.streaming.translation import generation
from xlsr_live.streaming.translation.load import load_translators
from xlsr_live.streaming.translation.speech import SpeechTranslator, encode
from xlsr_live.streaming.translation.translator import Segment

from tests.support.translation_checkpoints import xls_r_to_text

LINES = [
    f"el {noun} {adjective} está {where}"
    for noun in ("gato", "perro")
    for adjective in ("rojo", "azul")
    for where in ("aquí", "allí")
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    xls_r_to_text(folder, LINES)
    return folder


@pytest.fixture(scope="module")
def translator(checkpoint: Path) -> SpeechTranslator:
    (found,) = load_translators([str(checkpoint)])
    assert isinstance(found, SpeechTranslator)
    return found


def audio(seconds: float, seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(0, 0.1, int(16_000 * seconds)).astype(np.float32)


def test_the_layout_loads_without_missing_or_unexpected_weights(checkpoint: Path):
    from transformers import SpeechEncoderDecoderModel

    _, report = SpeechEncoderDecoderModel.from_pretrained(checkpoint, use_safetensors=True, output_loading_info=True)
    assert (report["missing_keys"], report["unexpected_keys"]) == (set(), set())


def test_the_published_languages_are_offered(translator: SpeechTranslator):
    assert {"de_DE", "es_XX", "zh_CN"} <= set(translator.targets(None))


def test_without_padding_the_encoder_is_that_of_transformers(translator: SpeechTranslator):
    encoder, values = translator._network.encoder, torch.from_numpy(audio(1.3, 0))[None]
    mask = torch.ones_like(values, dtype=torch.long)
    with torch.inference_mode():
        expected = encoder(values, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(encode(encoder, values, mask), expected)


@pytest.mark.parametrize("beams", [1, 3])
def test_each_row_of_a_batch_has_its_own_language_and_is_what_it_is_alone(
    translator: SpeechTranslator, monkeypatch: pytest.MonkeyPatch, beams: int
):
    monkeypatch.setattr(translator, "_beams", beams)
    segments = [
        Segment("", audio(length, seed), None, target)
        for seed, (length, target) in enumerate([(2.0, "es_XX"), (1.0, "de_DE"), (1.5, "fr_XX"), (1.0, "es_XX")])
    ]
    rows: list[list[list[int]]] = []
    real = generation.generate

    def kept(*arguments: Any, **options: Any) -> list[list[int]]:
        rows.append(real(*arguments, **options))
        return rows[-1]

    monkeypatch.setattr("xlsr_live.streaming.translation.speech.generate", kept)
    together = translator.translate(segments)
    alone = [translator.translate([segment])[0] for segment in segments]
    assert together == alone
    batch, *single = rows

    def plain(row: list[int]) -> list[int]:
        return row[: row.index(1)] if 1 in row else row

    assert [plain(row) for row in batch] == [plain(row) for (row,) in single]
    assert len({tuple(row) for row in batch}) > 1


def test_the_target_changes_the_text(translator: SpeechTranslator):
    said = audio(1.0, 0)
    texts = {translator.translate([Segment("", said, None, target)])[0] for target in translator.targets(None)[:12]}
    assert len(texts) > 1


def test_a_row_that_loops_is_stopped():
    stop = generation.LoopStop()
    fine = torch.arange(16)
    looping = torch.cat([torch.arange(4), torch.tensor([7, 8, 9] * 4)])
    assert stop(torch.stack([fine, looping]), None).tolist() == [False, True]
    assert stop(torch.stack([fine, looping])[:, :15], None).tolist() == [False, False]
