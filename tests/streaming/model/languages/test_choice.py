"""Which language of a checkpoint is loaded: the one asked for, or the only one; its tokenizer's is no default."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from xlsr_live.streaming.audio.normalize import normalize
from xlsr_live.streaming.config import ModelOptions, SessionConfig
from xlsr_live.streaming.errors import ModelError
from xlsr_live.streaming.model.load import load
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.checkpoints import LETTERS, NO_DELIMITER, publish_multilingual
from tests.support.noise import soft_noise
from tests.support.transformers_reference import transformers_reference


def test_a_multilingual_checkpoint_uses_the_requested_language(tmp_path: Path):
    directory = publish_multilingual(tmp_path, {"eng": LETTERS, "cmn": NO_DELIMITER}, target="eng")
    samples = soft_noise(16_000)
    texts = {}
    for language in ("eng", "cmn"):
        rows, text = transformers_reference(directory, samples, target_lang=language)
        with Recognizer.load(str(directory), device="cpu", language=language) as recognizer:
            assert recognizer.info.language == language
            assert recognizer.info.vocabulary == rows.shape[1]
            assert np.allclose(recognizer.encoder.encode([normalize(samples)])[0], rows, atol=1e-4)
            (final,) = recognizer.transcribe(samples, SessionConfig(vad="none"))
        texts[language] = final.text
        assert final.text == " ".join(text.split())
    assert set(texts["eng"]) <= set("ABCDEFGH ")
    assert set(texts["cmn"]) <= set("你好吗我们")


def test_an_unavailable_language_is_named(tmp_path: Path):
    directory = publish_multilingual(tmp_path, {"eng": LETTERS, "cmn": NO_DELIMITER}, target="eng")
    with pytest.raises(ModelError, match="has no 'xyz'"):
        load(ModelOptions(str(directory), language="xyz"))


@pytest.mark.parametrize("target", [None, "eng"])
def test_a_multilingual_checkpoint_has_no_default_of_its_own(tmp_path: Path, target: str | None):
    directory = publish_multilingual(tmp_path, {"eng": LETTERS, "cmn": NO_DELIMITER}, target=target)
    encoder = load(ModelOptions(str(directory), device="cpu"))
    assert encoder.languages
    assert (encoder.languages.known, encoder.languages.default) == (("cmn", "eng"), None)


def test_a_vocabulary_for_each_language_without_adapters_asks_for_a_language(tmp_path: Path):
    directory = publish_multilingual(tmp_path, {"eng": LETTERS, "cmn": NO_DELIMITER}, target=None)
    for adapter in directory.glob("adapter.*"):
        adapter.unlink()
    with pytest.raises(ModelError, match="name the language"):
        load(ModelOptions(str(directory)))


def test_the_only_language_of_a_checkpoint_is_its_default(tmp_path: Path):
    encoder = load(ModelOptions(str(publish_multilingual(tmp_path, {"cmn": NO_DELIMITER}, target=None)), device="cpu"))
    assert encoder.languages
    assert encoder.languages.default == encoder.info.language == "cmn"


def test_adapters_that_must_be_merged_need_a_language(tmp_path: Path):
    directory = publish_multilingual(tmp_path, {"eng": LETTERS, "cmn": NO_DELIMITER}, target="eng")
    settings = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(settings | {"do_stable_layer_norm": False}))
    with pytest.raises(ModelError, match="knows 2 languages: name the language"):
        load(ModelOptions(str(directory), device="cpu"))
