"""Calibrations and language models in the folder of a checkpoint, by path and from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from xlsr_live.streaming.ctc.assets import Assets
from xlsr_live.streaming.ctc.calibration import FILE, Calibration, Curve, save_calibration
from xlsr_live.streaming.errors import LanguageModelError, ModelError
from xlsr_live.streaming.model.assets import load_assets
from xlsr_live.streaming.model.source import Source, find_source

from tests.support.calibrated import CALIBRATION
from tests.support.fakes import VOCABULARY
from tests.support.ngrams import arpa


def checkpoint(folder: Path) -> Path:
    for name in ("config.json", "vocab.json", "preprocessor_config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    return folder


def test_the_calibration_of_a_checkpoint_is_loaded(tmp_path: Path):
    source = find_source(str(checkpoint(tmp_path)))
    assert load_assets(source, VOCABULARY) == Assets()
    save_calibration(tmp_path, CALIBRATION)
    assert load_assets(source, VOCABULARY) == Assets(calibration=CALIBRATION)
    (tmp_path / FILE).write_text("{")
    with pytest.raises(ModelError, match="calibration"):
        load_assets(source, VOCABULARY)


def test_a_calibration_is_loaded_by_its_path(tmp_path: Path):
    (fitted := tmp_path / "fitted").mkdir()
    (own := tmp_path / "own").mkdir()
    source = find_source(str(checkpoint(own)))
    other = Calibration(final=Curve(temperature=3.0), partial=Curve())
    save_calibration(own, CALIBRATION)
    save_calibration(fitted, other)
    for name in (fitted, str(fitted / FILE)):
        assert load_assets(source, VOCABULARY, calibration=name) == Assets(calibration=other)
    for nothing in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ModelError, match="is no calibration and no folder that holds"):
            load_assets(source, VOCABULARY, calibration=nothing)


def test_a_language_model_comes_from_the_checkpoint_from_a_path_or_is_none(tmp_path: Path):
    source = find_source(str(checkpoint(tmp_path)))
    inside = tmp_path / "language_model"
    inside.mkdir()
    (inside / "tiny.arpa").write_text(arpa())
    assert load_assets(source, VOCABULARY).language_model is not None
    assert load_assets(source, VOCABULARY, "none").language_model is None
    assert load_assets(source, VOCABULARY, inside / "tiny.arpa").language_model is not None
    (inside / "tiny.arpa").write_text(arpa()[:-60])
    with pytest.raises(LanguageModelError, match=r"tiny\.arpa"):
        load_assets(source, VOCABULARY)
    with pytest.raises(LanguageModelError, match="no such file"):
        load_assets(source, VOCABULARY, tmp_path / "nothing.arpa")


def test_the_packaged_language_model_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("xlsr_live.streaming.model.assets.BUNDLED", tmp_path / "bundled")
    (another := tmp_path / "another").mkdir()
    source = find_source(str(checkpoint(another)))
    with pytest.raises(LanguageModelError, match="without a language model"):
        load_assets(source, VOCABULARY, "bundled")
    (inside := tmp_path / "bundled" / "language_model").mkdir(parents=True)
    (inside / "tiny.arpa").write_text(arpa())
    assert load_assets(source, VOCABULARY, "bundled").language_model is not None
    assert load_assets(source, VOCABULARY).language_model is None


def test_the_assets_of_a_hub_checkpoint_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    downloads: list[dict[str, Any]] = []

    def fetch(name: str, **options: Any) -> str:
        downloads.append({"name": name, **options})
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    save_calibration(tmp_path, CALIBRATION)
    source = Source("owner/model", "owner/model", {"local_files_only": True, "revision": "abc"})
    assert load_assets(source, VOCABULARY, "none") == Assets(calibration=CALIBRATION)
    assert downloads == [
        {"name": "owner/model", **source.options, "allow_patterns": [FILE]}
    ]  # without a need no language model is loaded

    def fail(name: str, **options: Any) -> str:
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    assert load_assets(source, VOCABULARY) == Assets()
