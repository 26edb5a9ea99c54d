"""Short names of checkpoints."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from xlsr_live.client.cli import run
from xlsr_live.client.commands.models import downloaded
from xlsr_live.streaming.errors import ModelError
from xlsr_live.streaming.known_models import known_models
from xlsr_live.streaming.model.source import find_source


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_short_names_cannot_be_mistaken_for_others():
    hubs = [model.hub for model in known_models().values()]
    assert len(set(hubs)) == len(hubs)
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", hub) for hub in hubs)
    assert all(re.fullmatch(r"[a-z0-9-]+", name) and name != "bundled" for name in known_models())


@pytest.mark.parametrize("name", known_models())
def test_a_short_name_is_the_checkpoint_on_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    model = known_models()[name]
    source = find_source(name)
    assert (source.name, source.path, source.options.get("revision")) == (model.hub, model.hub, model.revision)
    assert find_source(name, "abc").options["revision"] == "abc"


def test_an_unknown_name_lists_the_nearest():
    with pytest.raises(ModelError, match=r"did you mean german"):
        find_source("germann")
    with pytest.raises(ModelError, match=r"\(owner/model\) \(short names: xlsr-live models\)$"):
        find_source("qqqqqq")


def test_the_list_marks_what_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    german = known_models()["german"]
    assert not downloaded(german)
    folder = tmp_path / f"models--{german.hub.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "pytorch_model.bin").touch()
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    assert run(["models"]) == 0
    marked = {line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("*")}
    assert marked == {"bundled", "german"}


def test_the_list_has_the_newest_measurement_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("xlsr_live.server.models.capacity.cache_folder", lambda: tmp_path)
    german, ours = known_models()["german"].hub, version("xlsr-live")
    assert run(["models"]) == 0
    assert "sessions here" not in capsys.readouterr().out
    entries = [
        (ours, german, 12, 100.0),
        (ours, german, 9, 200.0),
        ("0.0.1", german, 40, 300.0),
        (ours, "bundled", 31, 1.0),
    ]
    known = {f"{by}, {name}, {at}": {"sessions": count, "when": at} for by, name, count, at in entries}
    (tmp_path / "capacity.json").write_text(json.dumps(known), encoding="utf-8")
    assert run(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].strip() == "31 sessions here"
    assert [line.rpartition("; ")[2] for line in lines if german in line] == ["9 sessions here"]
