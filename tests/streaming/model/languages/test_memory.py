"""Languages load when they are needed, and the one that was not used for longest makes room."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from xlsr_live.streaming.config import ALLOWED_LANGUAGES
from xlsr_live.streaming.ctc.assets import Assets
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.errors import EngineError, ModelError
from xlsr_live.streaming.frames import span
from xlsr_live.streaming.model.adapters import AdapterShape, languages_of, read_adapter
from xlsr_live.streaming.model.encoder import XlsrEncoder
from xlsr_live.streaming.model.source import Source, find_source
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.checkpoints import LETTERS, publish_multilingual
from tests.support.languages import TOKENS, opened, same
from tests.support.noise import noise


def test_a_damaged_adapter_takes_no_other_language_with_it(copy: Path):
    (copy / "adapter.deu.safetensors").write_bytes(b"broken")
    holed = load_file(copy / "adapter.tha.safetensors")
    holed["lm_head.bias"][0] = torch.nan
    save_file(holed, copy / "adapter.tha.safetensors")
    (copy / "adapter.hye.safetensors").unlink()
    encoder, languages = opened(copy)
    assert languages.known == ("cmn-script_simplified", "deu", "eng", "tha")
    for language, why in (("deu", "damaged"), ("tha", "damaged"), ("hye", "no language"), ("xyz", "no language")):
        with pytest.raises(ModelError, match=why):
            languages.ensure(language)
    engine = Engine(encoder)
    try:
        samples = noise(span(30))
        answers = {name: engine.submit(samples, deadline=0, language=name) for name in ("eng", "deu", "tha")}
        assert answers["eng"].result(60).shape == (30, len(LETTERS))
        for name in ("deu", "tha"):
            with pytest.raises(EngineError, match="damaged"):
                answers[name].result(60)
    finally:
        engine.close()


def test_an_adapter_of_another_model_is_refused(copy: Path, tmp_path: Path):
    tensors = load_file(copy / "adapter.deu.safetensors")
    del tensors["wav2vec2.encoder.layers.1.adapter_layer.norm.bias"]
    save_file(tensors, copy / "adapter.deu.safetensors")
    _, languages = opened(copy)
    with pytest.raises(ModelError, match="another model"):
        languages.ensure("deu")


def test_an_adapter_that_cannot_be_fetched(checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    _, languages = opened(checkpoint, language="eng")

    def unreachable(*_: object) -> None:
        raise OSError("We couldn't connect to the hub")

    monkeypatch.setattr("xlsr_live.streaming.model.adapters.pickled_adapter", unreachable)
    with pytest.raises(ModelError, match="deu cannot be fetched"):
        languages.ensure("deu")
    monkeypatch.undo()
    languages.ensure("deu")


def test_languages_are_those_with_a_vocabulary_and_an_adapter(checkpoint: Path, copy: Path):
    assert languages_of(find_source(str(checkpoint))) == tuple(sorted(TOKENS))
    (copy / "adapter.deu.safetensors").unlink()
    assert "deu" not in (languages_of(find_source(str(copy))) or ())


def test_a_vocabulary_that_is_no_table_and_codes_that_are_paths(copy: Path):
    vocabulary = json.loads((copy / "vocab.json").read_text())
    (copy / "vocab.json").write_text(json.dumps(vocabulary | {"../other": {"<pad>": 0}}))
    assert languages_of(find_source(str(copy))) == tuple(sorted(TOKENS))
    (copy / "vocab.json").write_text("[1]")
    assert languages_of(find_source(str(copy))) is None
    (copy / "vocab.json").write_text("{")
    with pytest.raises(ModelError, match="damaged"):
        languages_of(find_source(str(copy)))


def test_the_language_of_load_is_the_default(checkpoint: Path):
    encoder, languages = opened(checkpoint, language="deu")
    assert (languages.default, encoder.info.language) == ("deu", "deu")
    assert encoder.vocabulary == languages.vocabulary("deu")
    samples = noise(span(30))
    assert same(encoder.encode([samples]), encoder.encode([samples], None, ["deu"]))


def test_the_default_may_be_written_in_any_way(checkpoint: Path):
    assert opened(checkpoint, language="de")[1].default == "deu"
    assert opened(checkpoint, language="zh")[1].default == "cmn-script_simplified"


def test_without_a_default_every_request_names_its_language(single: XlsrEncoder):
    assert single.info.language is None
    with pytest.raises(EngineError, match="name one"):
        single.encode([noise(span(30))])


def test_the_oldest_language_makes_room(checkpoint: Path):
    encoder, languages = opened(checkpoint)
    languages.adapters.slots = 2  # of those that there are
    before = languages.loads  # one, for the vocabulary of an encoder without default
    samples = noise(span(20))
    rows = {name: encoder.encode([samples], None, [name])[0] for name in ("eng", "deu")}
    encoder.encode([samples], None, ["eng"])
    rows["tha"] = encoder.encode([samples], None, ["tha"])[0]
    assert languages.resident == ("eng", "tha")
    assert languages.loads == before + 3
    for name in ("deu", "eng", "tha", "deu"):
        assert same([rows[name]], encoder.encode([samples], None, [name]))


def test_a_language_in_use_stays(checkpoint: Path):
    _, languages = opened(checkpoint)
    languages.adapters.slots = 2
    with languages.lease(["eng", "deu"]):
        with pytest.raises(EngineError, match="no room"):
            languages.ensure("tha")
        assert languages.resident == ("eng", "deu")
    languages.ensure("tha")
    assert languages.resident == ("deu", "tha")


def test_a_session_that_identifies_the_most_languages_reads_each_once(tmp_path: Path):
    codes = [f"l{index:02}" for index in range(ALLOWED_LANGUAGES[1])]
    _, languages = opened(publish_multilingual(tmp_path, dict.fromkeys(codes, LETTERS), target=codes[0]), max_batch=1)
    for code in codes * 2:
        languages.ensure(code)
    assert languages.loads == len(codes)


def test_an_adapter_in_the_cache_loads_again_without_the_hub(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The engine's thread may be the one that reads it."""
    repository, commit = tmp_path / "models--owner--mms", "a" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    shutil.copy(checkpoint / "adapter.deu.safetensors", repository / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    asked: list[str] = []

    def ask(_: Source, name: str) -> None:
        asked.append(name)

    monkeypatch.setattr("xlsr_live.streaming.model.adapters.find_file", ask)
    monkeypatch.setattr("xlsr_live.streaming.model.pickled.find_file", ask)
    source, shape = Source("owner/mms", "owner/mms", {"local_files_only": False}), AdapterShape(2, 32, 8)
    assert len(read_adapter(source, "deu", shape).head[1]) == len(TOKENS["deu"])
    assert not asked
    with pytest.raises(ModelError, match="no adapter for eng"):
        read_adapter(source, "eng", shape)
    assert asked


def test_threads_that_want_one_language_read_it_once(checkpoint: Path):
    _, languages = opened(checkpoint)
    before = languages.loads
    threads = [threading.Thread(target=languages.ensure, args=(name,)) for name in ("eng", "deu") * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert languages.loads == before + 2


# ── what decodes them ──


def test_each_language_has_its_own_calibration_and_language_model(copy: Path, tmp_path: Path):
    curve = {"final": {"temperature": 2.0}, "partial": {}}
    own = copy / "languages" / "deu"
    (own / "language_model").mkdir(parents=True)
    (own / "calibration.json").write_text(json.dumps(curve))
    arpa = "\\data\\\nngram 1=3\n\n\\1-grams:\n-1\t<s>\n-1\t</s>\n-1\tBAD\n\n\\end\\\n"
    (own / "language_model" / "words.arpa").write_text(arpa)
    (copy / "calibration.json").write_text(json.dumps({"final": {"temperature": 3.0}, "partial": {}}))
    _, languages = opened(copy, language="eng")
    deu, eng, tha = (languages.assets(name) for name in ("deu", "eng", "tha"))
    assert deu.calibration
    assert deu.calibration.final.temperature == 2.0
    assert deu.language_model
    assert deu.language_model.words == 1
    assert eng.calibration
    assert eng.calibration.final.temperature == 3.0
    assert (eng.language_model, tha) == (None, Assets())
    assert languages.assets("deu") is deu

    folder = tmp_path / "mine"
    (folder / "eng").mkdir(parents=True)
    (folder / "eng" / "calibration.json").write_text(json.dumps({"final": {"temperature": 4.0}, "partial": {}}))
    with Recognizer.load(str(copy), device="cpu", language="tha", calibration=folder, lm="none") as recognizer:
        languages = recognizer.encoder.languages
        assert recognizer.assets.calibration  # the checkpoint's own: the folder has none for the default language
        assert recognizer.assets.calibration.final.temperature == 3.0
    assert languages
    assert languages.assets("deu").language_model is None
    calibration = languages.assets("eng").calibration
    assert calibration
    assert calibration.final.temperature == 4.0
