"""Checkpoints with `pytorch_model.bin` only, as transformers 4 wrote them."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import load_file
from xlsr_live.streaming.config import ModelOptions
from xlsr_live.streaming.errors import ModelError
from xlsr_live.streaming.model import pickled
from xlsr_live.streaming.model.load import load

from tests.support.checkpoints import LETTERS, NO_DELIMITER, publish, publish_multilingual

NOISE = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
OLD_NAMES = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("small"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "xlsr-live" / "weights"


def old(small: Path, folder: Path, **options: bool) -> Path:
    """The checkpoint as transformers 4 wrote it: names of weight norm, one pickled file."""
    shutil.copytree(small, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for new, before in OLD_NAMES.items():
        tensors = {name.replace(new, before): tensor for name, tensor in tensors.items()}
    assert any(name.endswith("conv.weight_g") for name in tensors)
    torch.save(tensors, folder / "pytorch_model.bin", **options)
    return folder


def sharded(folder: Path) -> Path:
    """The same in several files with an index, by the code that transformers uses."""
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    (folder / "pytorch_model.bin").unlink()
    plan = split_torch_state_dict_into_shards(
        tensors, filename_pattern="pytorch_model{suffix}.bin", max_shard_size=20_000
    )
    assert len(plan.filename_to_tensors) > 2
    for name, names in plan.filename_to_tensors.items():
        torch.save({key: tensors[key] for key in names}, folder / name)
    index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


def rows(folder: Path) -> np.ndarray:
    return load(ModelOptions(str(folder), device="cpu")).encode([NOISE])[0]


def refused(folder: Path, words: str) -> None:
    with pytest.raises(ModelError, match=words) as error:
        load(ModelOptions(str(folder), device="cpu"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("shards", [False, True], ids=["one file", "shards"])
def test_a_pickled_checkpoint_gives_the_rows_of_its_safetensors(
    small: Path, tmp_path: Path, zipped: bool, shards: bool
):
    folder = old(small, tmp_path / "old", _use_new_zipfile_serialization=zipped)
    if shards:
        sharded(folder)
    assert np.array_equal(rows(folder), rows(small))


def test_a_copy_is_made_once_and_then_read(
    small: Path, tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    folder = old(small, tmp_path / "old")
    with caplog.at_level(logging.WARNING):
        first = rows(folder)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "safetensors copy" in line
    (copy,) = [path for path in cache.rglob("*") if path.is_file()]
    assert copy.name == "model.safetensors"
    caplog.clear()
    monkeypatch.setattr(pickled.torch, "load", None)  # no second call
    assert np.array_equal(rows(folder), first)
    assert not caplog.records


def test_a_changed_file_gets_a_new_copy(small: Path, tmp_path: Path, cache: Path):
    folder = old(small, tmp_path / "old")
    before = rows(folder)
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.save({name: tensor * 1.5 for name, tensor in tensors.items()}, folder / "pytorch_model.bin")
    assert not np.array_equal(rows(folder), before)
    assert len(list(cache.iterdir())) == 2


def test_a_read_only_cache_needs_no_copy(small: Path, tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture):
    cache.parent.parent.mkdir(parents=True)
    cache.parent.write_text("not a folder")
    folder = old(small, tmp_path / "old")
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(rows(folder), rows(small))
    assert "each start reads its pickled weights" in caplog.text


def test_safetensors_in_the_same_folder_take_precedence(small: Path, tmp_path: Path, cache: Path):
    folder = old(small, tmp_path / "old")
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    shutil.copy(small / "model.safetensors", folder)
    assert np.array_equal(rows(folder), rows(small))
    assert not cache.exists()


class Evil:
    """The unrestricted loader makes a folder when it unpickles this."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle", "beside good tensors"])
def test_code_in_a_pickle_never_runs(small: Path, tmp_path: Path, cache: Path, form: str):
    folder, touched = old(small, tmp_path / "old"), tmp_path / "touched"
    file = folder / "pytorch_model.bin"
    content: object = {"lm_head.weight": Evil(touched)}
    if form == "beside good tensors":
        content = torch.load(file, weights_only=True) | {"extra": Evil(touched)}
    if form == "bare pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=form != "legacy")
    refused(folder, "nothing in it was run")
    assert not touched.exists()
    assert not cache.exists()
    if form == "zip":  # the unrestricted loader does run the code
        torch.load(file, weights_only=False)
        assert touched.exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.95])
def test_a_truncated_file_is_damaged(small: Path, tmp_path: Path, zipped: bool, share: float, cache: Path):
    file = old(small, tmp_path / "old", _use_new_zipfile_serialization=zipped) / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    refused(file.parent, "damaged")
    assert not cache.exists()


@pytest.mark.parametrize("content", [[1, 2], {"a": 3}, {"state_dict": {}}, {1: torch.zeros(1)}], ids=str)
def test_a_pickle_without_named_tensors(small: Path, tmp_path: Path, content: object):
    folder = old(small, tmp_path / "old")
    torch.save(content, folder / "pytorch_model.bin")
    refused(folder, "tensors")


def test_names_and_shapes_are_checked_as_for_safetensors(small: Path, tmp_path: Path):
    folder = old(small, tmp_path / "old")
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.save(
        {name: tensor for name, tensor in tensors.items() if "lm_head" not in name}, folder / "pytorch_model.bin"
    )
    refused(folder, "lacks weights.*lm_head")
    torch.save(tensors | {"lm_head.weight": torch.zeros(3, 3)}, folder / "pytorch_model.bin")
    refused(folder, "cannot be loaded")


@pytest.mark.parametrize(
    ("index", "words"),
    [("{", "index.json is damaged"), ("{}", "index.json is damaged"), ("[]", "index.json is damaged")],
)
def test_a_damaged_index(small: Path, tmp_path: Path, index: str, words: str):
    folder = sharded(old(small, tmp_path / "old"))
    (folder / "pytorch_model.bin.index.json").write_text(index)
    refused(folder, words)


def test_an_index_names_only_files_of_its_folder(small: Path, tmp_path: Path):
    folder = sharded(old(small, tmp_path / "old"))
    path = folder / "pytorch_model.bin.index.json"
    index = json.loads(path.read_text())
    for name in ("../secret.bin", "missing.bin"):
        path.write_text(json.dumps(index | {"weight_map": index["weight_map"] | {"lm_head.weight": name}}))
        refused(folder, "which is missing")


def test_other_pickled_files_are_never_read(small: Path, tmp_path: Path):
    folder = old(small, tmp_path / "old")
    (folder / "pytorch_model.bin").rename(folder / "weights.pt")
    refused(folder, "weights.pt.* never read")


def test_an_old_torch_is_refused(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = old(small, tmp_path / "old")
    monkeypatch.setattr(torch, "__version__", "2.5.1")
    refused(folder, "needs torch 2.6")


LANGUAGES = {"eng": LETTERS, "cmn": NO_DELIMITER}


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_multilingual(tmp_path_factory.mktemp("multilingual"), LANGUAGES, target="eng")


def pickled_adapters(folder: Path) -> Path:
    for path in folder.glob("adapter.*.safetensors"):
        torch.save(load_file(path), path.with_suffix(".bin"))
        path.unlink()
    return folder


@pytest.mark.parametrize("adapters", ["safetensors", "pickled"])
def test_adapters_are_read_from_the_folder_of_the_checkpoint(multilingual: Path, tmp_path: Path, adapters: str):
    folder = old(multilingual, tmp_path / "old")
    if adapters == "pickled":
        pickled_adapters(folder)
    answers: list[np.ndarray] = []
    for language in LANGUAGES:
        ours, reference = (
            load(ModelOptions(str(path), language=language, device="cpu")).encode([NOISE])[0]
            for path in (folder, multilingual)
        )
        assert np.array_equal(ours, reference)
        answers.append(ours)
    assert answers[0].shape != answers[1].shape


def test_a_pickled_adapter_next_to_safetensors_is_never_read(multilingual: Path, tmp_path: Path):
    folder = Path(shutil.copytree(multilingual, tmp_path / "new"))
    (folder / "adapter.eng.bin").write_bytes(b"never read")
    load(ModelOptions(str(folder), language="eng", device="cpu"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "old has no 'eng'"),
        ("evil", r"adapter\.eng\.bin .* nothing in it was run"),
        ("cut", r"adapter\.eng\.bin is damaged"),
        ({"lm_head.weight": 3}, r"adapter\.eng\.bin holds more than named tensors"),
        ({"lm_head.weight": torch.zeros(3, 3)}, "adapter of eng is of another model"),
        ({"other": torch.zeros(1)}, "adapter of eng is of another model"),
    ],
    ids=["missing", "code", "cut", "no tensor", "missing tensors", "unknown tensors"],
)
def test_an_adapter_that_cannot_be_used_is_named(multilingual: Path, tmp_path: Path, content: object, words: str):
    folder, touched = pickled_adapters(old(multilingual, tmp_path / "old")), tmp_path / "touched"
    file = folder / "adapter.eng.bin"
    if content is None:
        file.unlink()
    elif content == "evil":
        torch.save({"lm_head.weight": Evil(touched)}, file)
    elif content == "cut":
        file.write_bytes(file.read_bytes()[:500])
    else:
        torch.save(content, file)
    with pytest.raises(ModelError, match=words) as error:
        load(ModelOptions(str(folder), language="eng", device="cpu"))
    assert "\n" not in str(error.value)
    assert not touched.exists()
