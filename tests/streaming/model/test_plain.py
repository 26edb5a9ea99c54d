"""Loading without transformers gives the model that transformers loads, or leaves the checkpoint to it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.utils import parametrize
from xlsr_live.streaming.model.plain import Loaded, load_plain
from xlsr_live.streaming.model.pretrained import load_pretrained
from xlsr_live.streaming.model.source import find_source

from tests.support.checkpoints import LETTERS, NO_DELIMITER, SMALL, SMALL_GROUP_NORM, SMALL_MMS, SUB_WORDS, publish
from tests.support.noise import noise
from tests.support.paths import DIGITS

ODD = SMALL | {"num_conv_pos_embeddings": 15, "conv_bias": False}


def compare(name: str) -> Loaded:
    """Load both ways; returns the plain one."""
    source = find_source(name)
    plain, whole = load_plain(source, Path(source.path)), load_pretrained(source, None)
    assert plain is not None
    assert plain.vocabulary == whole.vocabulary
    assert (plain.normalized, plain.epsilon, plain.language) == (whole.normalized, whole.epsilon, whole.language)
    parametrize.remove_parametrizations(whole.model.wav2vec2.encoder.pos_conv_embed.conv, "weight")
    theirs = whole.model.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in plain.model.state_dict().items())
    samples = torch.from_numpy(noise(9_000))[None]
    with torch.inference_mode():
        assert torch.allclose(plain.model(samples), whole.model(samples).logits, atol=1e-3)
    return plain


@pytest.mark.parametrize("name", ["bundled", str(DIGITS)])
def test_the_models_of_this_repository(name: str):
    compare(name)


@pytest.mark.parametrize("size", [SMALL, ODD], ids=["small", "odd"])
@pytest.mark.parametrize("tokens", [LETTERS, SUB_WORDS, NO_DELIMITER], ids=["letters", "sub-words", "no delimiter"])
def test_published_layouts(tmp_path: Path, size: dict[str, object], tokens: tuple[str, ...]):
    compare(str(publish(tmp_path, size, tokens, normalize=size is ODD, lower=tokens is LETTERS)))


def edit(file: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_older_files(tmp_path: Path):
    """Half precision, weight norm under its older names, shards, special tokens in a file of their own."""
    folder = publish(tmp_path)
    weights = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    renamed = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in weights.items()
    }
    assert renamed.keys() != weights.keys()
    (folder / "model.safetensors").unlink()
    shards = {name: f"model-{index % 2 + 1:05}-of-00002.safetensors" for index, name in enumerate(sorted(renamed))}
    for file in set(shards.values()):
        part = {name: renamed[name] for name, where in shards.items() if where == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": shards}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    edit(folder / "tokenizer_config.json", lambda settings: settings.pop("unk_token"))
    token = {"content": "<unk>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    (folder / "special_tokens_map.json").write_text(json.dumps({"unk_token": token}))
    (folder / "added_tokens.json").write_text(json.dumps({"<s>": 1}))
    compare(str(folder))


def drop(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        save_file({key: each for key, each in weights.items() if key != name}, folder / "model.safetensors")

    return change


def config(**changed: object) -> Callable[[Path], object]:
    return lambda folder: edit(folder / "config.json", lambda settings: settings.update(changed))


def tokenizer(**changed: object) -> Callable[[Path], object]:
    return lambda folder: edit(folder / "tokenizer_config.json", lambda settings: settings.update(changed))


@pytest.mark.parametrize(
    "change",
    [
        config(model_type="hubert"),
        config(architectures=["Wav2Vec2ForPreTraining"]),
        config(hidden_act="relu"),
        config(conv_stride=[5, 2, 2, 2, 2, 2, 1]),
        config(hidden_size="many"),
        config(vocab_size=99),
        tokenizer(tokenizer_class="LlamaTokenizerFast"),
        tokenizer(target_lang="eng"),
        tokenizer(pad_token="[PAD]"),
        drop("lm_head.bias"),
        lambda folder: (folder / "added_tokens.json").write_text(json.dumps({"<extra>": 13})),
        lambda folder: (folder / "vocab.json").write_text(json.dumps({"eng": {"a": 1}})),
        lambda folder: (folder / "vocab.json").write_text("["),
        lambda folder: (folder / "model.safetensors").write_bytes(b"damaged"),
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        lambda folder: (folder / "preprocessor_config.json").write_text('{"sampling_rate": 8000}'),
    ],
)
def test_unusual_checkpoints_are_left_to_transformers(tmp_path: Path, change: Callable[[Path], object]):
    folder = publish(tmp_path)
    source = find_source(str(folder))
    assert load_plain(source, folder) is not None
    change(folder)
    assert load_plain(source, folder) is None


@pytest.mark.parametrize("size", [SMALL_GROUP_NORM, SMALL_MMS])
def test_other_networks_are_left_to_transformers(tmp_path: Path, size: dict[str, object]):
    assert load_plain(find_source(str(publish(tmp_path, size))), tmp_path) is None


def test_recognizing_speech_imports_neither_transformers_nor_what_it_needs(tmp_path: Path):
    code = (
        "import sys; from xlsr_live.client.cli import run; assert run(['transcribe', sys.argv[1]]) == 0; "
        "print(*sorted({'transformers', 'sympy', 'scipy', 'pandas', 'httpx', 'torch._dynamo'} & set(sys.modules)))"
    )
    clip = "tests/clips/clock.flac"
    done = subprocess.run([sys.executable, "-c", code, clip], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1:] in ([], [""])
