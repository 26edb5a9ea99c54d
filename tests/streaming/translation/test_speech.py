"""Speech to text on a random checkpoint in the published layout: languages in one batch, padding, bounds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from xlsr_live.streaming.translation import generation
from xlsr_live.streaming.translation.checkpoints import find_checkpoint, language_tokens, load_tokenizer
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
    source, config = find_checkpoint(str(checkpoint))
    return SpeechTranslator(source, config, only=["German", "es", "fr", "zh", "ja", "ar", "Turkish", "et"])


def audio(seconds: float, seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(0, 0.1, int(16_000 * seconds)).astype(np.float32)


def test_the_layout_loads_without_missing_or_unexpected_weights(checkpoint: Path):
    from transformers import SpeechEncoderDecoderModel

    _, report = SpeechEncoderDecoderModel.from_pretrained(checkpoint, use_safetensors=True, output_loading_info=True)
    assert (report["missing_keys"], report["unexpected_keys"]) == (set(), set())


def test_the_published_languages_are_offered(translator: SpeechTranslator):
    named = ("de_DE", "es_XX", "fr_XX", "zh_CN", "ja_XX", "ar_AR", "tr_TR", "et_EE")
    assert translator.targets(None) == named


def test_without_a_choice_it_is_the_default_of_the_checkpoint(checkpoint: Path):
    (found,) = load_translators([str(checkpoint)])
    tokens = language_tokens(load_tokenizer(find_checkpoint(str(checkpoint))[0]))
    default = json.loads((checkpoint / "generation_config.json").read_text())["forced_bos_token_id"]
    assert [tokens[code] for code in found.targets(None)] == [default]
    (chosen,) = load_translators([f"{checkpoint}=es,de"])
    assert chosen.targets(None) == ("es_XX", "de_DE")


def test_a_checkpoint_with_pickled_weights_gives_the_same_text(
    checkpoint: Path, translator: SpeechTranslator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The published ones have no other."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = shutil.copytree(checkpoint, tmp_path / "pickled")
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    (pickled,) = load_translators([f"{folder}=es"])
    segments = [Segment("", audio(1.0, 0), None, "es_XX")]
    assert pickled.translate(segments) == translator.translate(segments)


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
    texts = {translator.translate([Segment("", said, None, target)])[0] for target in translator.targets(None)}
    assert len(texts) > 1


def test_a_row_that_loops_is_stopped():
    stop = generation.LoopStop()
    fine = torch.arange(16)
    looping = torch.cat([torch.arange(4), torch.tensor([7, 8, 9] * 4)])
    assert stop(torch.stack([fine, looping]), None).tolist() == [False, True]
    assert stop(torch.stack([fine, looping])[:, :15], None).tolist() == [False, False]
