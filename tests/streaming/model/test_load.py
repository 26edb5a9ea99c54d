"""Loading checkpoints of every published kind, and encoding in batches."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2ForCTC
from xlsr_live.streaming.audio.normalize import normalize
from xlsr_live.streaming.config import ModelOptions, SessionConfig
from xlsr_live.streaming.errors import ModelError
from xlsr_live.streaming.frames import frames
from xlsr_live.streaming.model.load import load
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.checkpoints import (
    LETTERS,
    NO_DELIMITER,
    SMALL,
    SMALL_GROUP_NORM,
    SUB_WORDS,
    XLSR_1B,
    XLSR_2B,
    XLSR_300M,
    config,
    publish,
)
from tests.support.noise import soft_noise
from tests.support.transformers_reference import transformers_reference


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("small"))


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "copy"))


# ── checkpoints that load ──

KINDS: dict[str, dict[str, Any]] = {
    "letters": {},
    "lower case": {"lower": True},
    "sub-words": {"tokens": SUB_WORDS},
    "no delimiter": {"tokens": NO_DELIMITER},
    "not normalised": {"normalize": False},
    "group norm": {"size": SMALL_GROUP_NORM},
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_of_checkpoint_loads_and_streams_the_text_of_transformers(tmp_path: Path, kind: str):
    directory = publish(tmp_path, **KINDS[kind])
    samples = soft_noise(24_000)
    rows, text = transformers_reference(directory, samples)
    with Recognizer.load(str(directory), device="cpu") as recognizer:
        scaled = normalize(samples) if recognizer.encoder.normalized else samples
        assert np.allclose(recognizer.encoder.encode([scaled])[0], rows, atol=1e-4)
        (final,) = recognizer.transcribe(samples, SessionConfig(vad="none"))
    assert final.text == " ".join(text.split())
    assert len(final.text) > 5


@pytest.mark.parametrize("size", [SMALL, SMALL_GROUP_NORM])  # loaded without transformers, and with them
def test_a_checkpoint_may_name_its_lookahead(tmp_path: Path, size: dict[str, Any]):
    directory = publish(tmp_path, size)
    options = ModelOptions(str(directory), device="cpu")
    assert load(options).info.lookahead_ms == 480
    edit(directory, live_lookahead_ms=320)
    assert load(options).info.lookahead_ms == 320


def test_the_packaged_model_has_a_description(packaged: Recognizer):
    info = packaged.info
    assert (info.name, info.device, info.dtype, info.language) == ("bundled", "cpu", "float32", None)
    assert info.vocabulary == len(packaged.encoder.vocabulary) == 32
    assert info.parameters > 1_000_000
    assert packaged.encoder.max_batch == 1
    assert not packaged.encoder.normalized  # live steps compute the features of the second pass


def test_published_sizes_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        for size, millions in ((XLSR_300M, 315), (XLSR_1B, 963), (XLSR_2B, 2_159)):
            model = Wav2Vec2ForCTC(config(size, 32))
            assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


# ── checkpoints that are refused ──


def refused(name: str, words: str, **options: Any) -> None:
    with pytest.raises(ModelError, match=words) as error:
        load(ModelOptions(name, **options))
    assert "\n" not in str(error.value)
    assert "huggingface.co" not in str(error.value)
    assert len(str(error.value).replace(name, "")) < 250


def edit(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", ["/no/such/dir", "./nowhere", "no-slash", "a/b/c", ""])
def test_a_name_that_is_neither_directory_nor_hub_name(name: str):
    refused(name, "no such directory")


def test_a_file_is_not_a_directory(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    refused(str(tmp_path / "model.safetensors"), "is a file")


def test_a_directory_without_a_config(tmp_path: Path):
    refused(str(tmp_path), r"config\.json")


def test_a_config_that_is_not_json(copy: Path):
    (copy / "config.json").write_text("{")
    refused(str(copy), r"config\.json|JSON")


def test_a_directory_without_weights(copy: Path):
    (copy / "model.safetensors").unlink()
    refused(str(copy), "no weights")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["Wav2Vec2ForPreTraining"]}, "without a CTC head"),
        ({"architectures": ["WavLMForCTC"], "model_type": "wavlm"}, "none of Wav2Vec2ForCTC"),
        ({"architectures": None}, "none of Wav2Vec2ForCTC"),
        ({"conv_stride": [5, 2, 2, 2, 2, 2, 1]}, "320 samples"),
        ({"conv_kernel": [10, 3, 3, 3, 3, 2, 3]}, "320 samples"),
        ({"add_adapter": True}, "320 samples"),
        ({"live_lookahead_ms": 250}, "live_lookahead_ms in config.json: .* multiple of 20"),
        ({"live_lookahead_ms": "short"}, "live_lookahead_ms in config.json"),
        ({"hidden_size": 64}, "cannot be loaded"),  # the weights have another shape
    ],
)
def test_a_checkpoint_that_does_not_fit(copy: Path, changes: dict[str, Any], words: str):
    edit(copy, **changes)
    refused(str(copy), words)


@pytest.mark.parametrize("lost", ["lm_head.weight", "wav2vec2.encoder.layers.1.attention.k_proj.weight"])
def test_missing_weights_are_an_error(copy: Path, lost: str):
    weights = load_file(copy / "model.safetensors")
    del weights[lost]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    refused(str(copy), f"lacks weights.*{lost}")


@pytest.mark.parametrize("content", [b"", b"garbage, not safetensors", None])
def test_damaged_weights(copy: Path, content: bytes | None):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)
    refused(str(copy), "cannot be loaded")


@pytest.mark.parametrize("file", ["preprocessor_config.json", "vocab.json"])
def test_a_checkpoint_without_extractor_or_tokenizer(copy: Path, file: str):
    (copy / file).unlink()
    refused(str(copy), file if file.startswith("pre") else "vocab|tokenizer")


def test_a_checkpoint_for_another_sample_rate(copy: Path):
    path = copy / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sampling_rate": 8_000}))
    refused(str(copy), "8000 Hz")


def test_a_blank_that_the_head_cannot_emit(copy: Path):
    path = copy / "vocab.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"<pad>": 99}))
    refused(str(copy), "padding token")


def test_a_language_for_a_checkpoint_without_adapters(copy: Path):
    refused(str(copy), "no language adapters", language="eng")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_rounds_the_weights_of_float32_once(small: Path, dtype: str):
    """Also the positional convolution, whose weights are products of norms and directions."""
    exact, half = (load(ModelOptions(str(small), device="cpu", dtype=each))._model for each in ("float32", dtype))
    weights = dict(half.named_parameters())
    assert weights.keys() == dict(exact.named_parameters()).keys()
    for name, weight in exact.named_parameters():
        assert torch.equal(weight.to(getattr(torch, dtype)), weights[name]), name


@pytest.mark.parametrize("device", ["gpu", "cpu:x", "meta", "mps"])
def test_an_unknown_device(small: Path, device: str):
    refused(str(small), "auto, cpu or cuda", device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_cuda_on_a_machine_without_a_device(small: Path):
    refused(str(small), "no CUDA device", device="cuda")


def test_an_unknown_number_format(small: Path):
    refused(str(small), "bfloat16", dtype="int4")


HUB = """
from xlsr_live.streaming.config import ModelOptions
from xlsr_live.streaming.model.load import load
for name, revision in [("me/tiny", None), ("me/tiny", "b" * 40), ("me/pickled", None), ("me/nothing", None)]:
    try:
        print(load(ModelOptions(name, revision=revision, device="cpu")).info.vocabulary)
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_hub_names_pinned_revisions_and_a_hub_that_cannot_be_reached(tmp_path: Path):
    """Runs in its own process, because the hub library reads its settings once; the test fills its cache."""

    def cached(name: str, revision: str, main: bool = True) -> Path:
        at = tmp_path / "hub" / f"models--me--{name}"
        (at / "refs").mkdir(parents=True, exist_ok=True)
        if main:
            (at / "refs" / "main").write_text(revision)
        return at / "snapshots" / revision

    publish(cached("tiny", "a" * 40))
    publish(cached("tiny", "b" * 40, main=False), tokens=SUB_WORDS)
    pickled = publish(cached("pickled", "c" * 40))
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", HUB], env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    letters, sub_words, pickle, nothing = done.stdout.splitlines()
    assert (letters, sub_words, pickle) == (str(len(LETTERS)), str(len(SUB_WORDS)), str(len(LETTERS)))
    assert (tmp_path / "xlsr-live" / "weights").is_dir()
    assert nothing.startswith("ModelError me/nothing is not in the local cache")


# ── batches ──


@pytest.mark.parametrize("normalize_", [True, False])
def test_batched_with_padding_equals_single(tmp_path: Path, normalize_: bool):
    encoder = load(ModelOptions(str(publish(tmp_path, normalize=normalize_)), device="cpu", max_batch=8))
    batch = [soft_noise(length, seed) for seed, length in enumerate([16_000, 14_000, 400, 8_123, 15_999, 16_000])]
    together = encoder.encode(batch)
    for samples, rows in zip(batch, together, strict=True):
        (alone,) = encoder.encode([samples])
        assert rows.shape == alone.shape == (frames(len(samples)), len(LETTERS))
        assert rows.dtype == np.float32
        assert np.abs(rows - alone).max() < 1e-4
        assert np.allclose(np.exp(rows).sum(1), 1, atol=1e-5)


def test_batches_pad_little_with_layer_norm_and_never_with_group_norm(tmp_path: Path, small: Path):
    layer = load(ModelOptions(str(small), device="cpu", max_batch=8))
    assert layer.fits(16_000, [16_000, 15_000])
    assert layer.fits(12_000, [16_000])
    assert not layer.fits(4_000, [16_000])
    assert not layer.fits(32_000, [16_000, 16_000])
    group = load(ModelOptions(str(publish(tmp_path, SMALL_GROUP_NORM)), device="cpu"))
    assert group.fits(16_000, [16_000, 16_000])
    assert not group.fits(15_999, [16_000])
    batch = [soft_noise(8_000, seed) for seed in range(3)]
    for samples, rows in zip(batch, group.encode(batch), strict=True):
        assert np.abs(rows - group.encode([samples])[0]).max() < 1e-4


@pytest.mark.parametrize("seconds", [0.025, 0.5, 2.0])
def test_half_precision_stays_close_and_has_the_same_number_of_rows(small: Path, seconds: float):
    samples = normalize(soft_noise(int(16_000 * seconds)))
    full = load(ModelOptions(str(small), device="cpu")).encode([samples])[0]
    half = load(ModelOptions(str(small), device="cpu", dtype="bfloat16")).encode([samples])[0]
    assert half.dtype == np.float32
    assert half.shape == full.shape
    assert np.abs(half - full).max() < 0.5


def test_weights_that_overflow_are_an_error_not_a_transcript(copy: Path):
    weights = load_file(copy / "model.safetensors")
    weights["lm_head.bias"][:] = float("nan")
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with Recognizer.load(str(copy), device="cpu") as recognizer:
        events = list(recognizer.stream(soft_noise(16_000), SessionConfig(vad="none")))
    codes = [event.code for event in events if type(event).__name__ == "Error"]
    assert set(codes) == {"encoder_failed"}
    assert type(events[-1]).__name__ == "SessionEnded"


# ── full size ──


@pytest.mark.slow
def test_a_full_size_xlsr_300m_loads_streams_and_batches(tmp_path: Path):
    directory = publish(tmp_path, XLSR_300M)
    try:
        with Recognizer.load(str(directory), device="cpu") as recognizer:
            assert recognizer.info.parameters == pytest.approx(315e6, rel=0.01)
            events = list(
                recognizer.stream(soft_noise(48_000), SessionConfig(vad="none", hop_ms=1_000, lookahead_ms=500))
            )
            assert type(events[-1]).__name__ == "SessionEnded"
            assert not [event for event in events if type(event).__name__ == "Error"]
            encoder = recognizer.encoder
            assert encoder.max_batch == 4
            assert not encoder.fits(16_000, [16_000])  # passes run alone: a live step need not wait for several
            batch = [normalize(soft_noise(length, length)) for length in (16_000, 12_000)]
            for samples, rows in zip(batch, recognizer.encoder.encode(batch), strict=True):
                assert np.abs(rows - recognizer.encoder.encode([samples])[0]).max() < 1e-3
    finally:
        shutil.rmtree(directory)
