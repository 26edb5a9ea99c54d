"""The multilingual recipe: its texts, its plan, and the layout of its checkpoint."""

from __future__ import annotations

import random
import shutil
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from xlsr_live.streaming.errors import ModelError
from xlsr_live.streaming.model.adapters import Adapter, AdapterShape, languages_of, read_adapter
from xlsr_live.streaming.model.source import Source, find_source
from xlsr_live.training.recipe.multilingual.checkpoint import ENGLISH, LETTERS, WIDTH, begin, join, keep
from xlsr_live.training.recipe.multilingual.phrases import LANGUAGES, Phrases, split_of
from xlsr_live.training.recipe.multilingual.speech import HELD_NATIVE, HELD_VOICES, plan

from tests.support.checkpoints import publish
from tests.support.recipe_base import LETTERS_OF_BASE, SMALL

VOICES = ["af_alloy", "am_adam", "ef_dora", "em_santa", "ff_siwis", "if_sara", "pf_dora", *HELD_VOICES, *HELD_NATIVE]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_has_only_letters_of_its_language(language: str):
    letters = set(LETTERS.get(language, "abcdefghijklmnopqrstuvwxyz'"))
    for split in ("train", "dev", "test"):
        for text in islice(Phrases(language).draw(split, random.Random(1)), 300):
            assert set(text) <= letters | {" "}
            assert text == " ".join(text.split())
            assert split_of(text) == split


def test_voices_of_the_tests_read_nothing_else():
    readings = plan(VOICES, 40, 20)
    held = {*HELD_VOICES, *HELD_NATIVE}
    for reading in readings:
        names = set(reading.speaker.partition(":")[0].split("+"))
        assert bool(names & held) == (reading.split == "test")
    assert {each.language for each in readings if each.split == "train"} == set(LANGUAGES)
    assert all({each.speaker for each in readings if each.language == one} & set(HELD_VOICES) for one in LANGUAGES)


def test_more_recordings_change_none_of_the_others():
    few, many = plan(VOICES, 10, 5), plan(VOICES, 30, 50)
    assert set(few) <= set(many)
    assert len({(each.language, each.split, each.name) for each in many}) == len(many)


def test_a_joined_checkpoint_has_the_trained_adapters(tmp_path: Path):
    base = publish(tmp_path / "base", SMALL, LETTERS_OF_BASE)
    begin(str(base), tmp_path / "begin")
    source = find_source(str(tmp_path / "begin"))
    assert languages_of(source) == tuple(sorted((ENGLISH, *LETTERS)))
    keep(str(base), dict.fromkeys(LETTERS, tmp_path / "begin"), tmp_path / "adapters")
    join(str(base), tmp_path / "adapters", tmp_path / "joined")
    joined, shape = find_source(str(tmp_path / "joined")), AdapterShape(2, 32, WIDTH)
    for language in (ENGLISH, *LETTERS):
        one, other = (read_adapter(each, language, shape) for each in (source, joined))
        assert all(torch.allclose(*pair, atol=1e-3) for pair in zip(_flat(one), _flat(other), strict=True))
        assert not other.up[0].any()  # an adapter that is not trained has no output
        assert len(other.head[0]) == len(LETTERS.get(language, "")) + 5 or language == ENGLISH


def test_adapters_of_another_model_are_refused(tmp_path: Path):
    base, other = (publish(tmp_path / str(seed), SMALL, LETTERS_OF_BASE, seed=seed) for seed in (0, 1))
    begin(str(base), tmp_path / "begin")
    keep(str(base), {"deu": tmp_path / "begin"}, tmp_path / "adapters")
    with pytest.raises(ModelError, match="trained beside another model"):
        join(str(other), tmp_path / "adapters", tmp_path / "joined")


def test_adapters_may_bring_their_model(tmp_path: Path):
    base, other = (publish(tmp_path / str(seed), SMALL, LETTERS_OF_BASE, seed=seed) for seed in (0, 1))
    begin(str(base), tmp_path / "begin")
    keep(str(base), {"deu": tmp_path / "begin"}, tmp_path / "adapters")
    shutil.copytree(base, tmp_path / "adapters" / "base")
    for number, named in enumerate((base, other)):
        join(str(named), tmp_path / "adapters", tmp_path / f"joined-{number}")
    first, second = (load_file(tmp_path / f"joined-{number}" / "model.safetensors") for number in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_language_begins_with_the_rows_of_plain_letters(tmp_path: Path):
    base = publish(tmp_path / "base", SMALL, LETTERS_OF_BASE)
    begin(str(base), tmp_path / "begin")
    source: Source = find_source(str(tmp_path / "begin"))
    english = read_adapter(source, ENGLISH, AdapterShape(2, 32, WIDTH)).head[0]
    german = read_adapter(source, "deu", AdapterShape(2, 32, WIDTH)).head[0]
    for letter, plain in (("a", "A"), ("ä", "A"), ("ß", "S"), ("z", "Z"), ("'", "'")):
        row = german[5 + LETTERS["deu"].index(letter)]
        assert torch.equal(row, english[LETTERS_OF_BASE.index(plain)])


def _flat(adapter: Adapter) -> list[torch.Tensor]:
    return [tensor for pair in adapter for tensor in pair]
