"""Every kind of base trains, and the result loads elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2ForCTC, Wav2Vec2ForPreTraining
from xlsr_live.streaming.errors import ModelError
from xlsr_live.streaming.recognizer import Recognizer
from xlsr_live.training import finetune
from xlsr_live.training.base import find_base, load_base
from xlsr_live.training.errors import TrainingError
from xlsr_live.training.export import export
from xlsr_live.training.network import Network, StepLengths
from xlsr_live.training.recordings import Listed

from tests.support.checkpoints import SMALL_GROUP_NORM, SPECIAL, publish, publish_multilingual
from tests.support.fine_tuning import TINY, TOKENS, finish, start, weights


def pretrained(folder: Path, size: dict, *, pickled: bool = True) -> Path:
    """A checkpoint in the layout of facebook/wav2vec2-xls-r-300m: no vocabulary, no head, pytorch_model.bin."""
    torch.manual_seed(0)
    config = Wav2Vec2Config(**size, vocab_size=32, proj_codevector_dim=8, codevector_dim=8, num_codevectors_per_group=4)
    model = Wav2Vec2ForPreTraining(config)
    folder.mkdir(parents=True)
    model.config.architectures = ["Wav2Vec2ForPreTraining"]
    model.config.save_pretrained(folder)
    if pickled:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    else:
        model.save_pretrained(folder)
    return folder


def heard(folder: Path, table: list[Listed], **options: str) -> tuple[Recognizer, list[np.ndarray]]:
    recognizer = Recognizer.load(str(folder), device="cpu", lm="none", **options)
    audio = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    return recognizer, recognizer.encoder.encode([audio])


@pytest.mark.parametrize("pickled", [True, False])
def test_a_base_without_a_head_gets_the_vocabulary_of_the_texts_and_serves(
    pickled: bool, table: list[Listed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = finish(start(pretrained(tmp_path / "base", TINY, pickled=pickled), tmp_path / "out", table))
    recognizer, (rows,) = heard(tmp_path / "out", table)
    with recognizer:
        assert recognizer.encoder.normalized
        assert recognizer.info.modes[0] == "cached"
        assert set("".join(recognizer.encoder.vocabulary.texts)) == set(" ABCDEF")
    want = weights(run)
    assert rows.shape[1] == len(run.survey.vocabulary)
    assert want["model.lm_head.weight"].shape[0] == rows.shape[1]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_an_export_gives_what_the_trained_network_gives(method: str, base: Path, table: list[Listed], tmp_path: Path):
    run = start(base, tmp_path / "out", table, method=method, rate=5.0)
    assert run.train(lambda *_: None, lambda _: None, lambda: False)
    samples = torch.randn(1, 16_000)
    network = run.tuner.learner.network.eval()
    with torch.inference_mode():
        want = network(samples, torch.tensor([16_000]))[0].log_softmax(-1)
    run.export()
    model = Wav2Vec2ForCTC.from_pretrained(tmp_path / "out").eval()
    with torch.inference_mode():
        got = model(samples).logits.log_softmax(-1)
    assert torch.allclose(got, want, atol=1e-4)
    assert "lora" not in "".join(model.state_dict())


def test_weights_are_chosen_and_shipped_with_the_lookahead_of_the_base(
    table: list[Listed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    base = publish(tmp_path / "base", TINY | {"live_lookahead_ms": 240}, TOKENS)
    modes: list[StepLengths | None] = []
    transcribe = finetune.transcribe

    def watched(network, clips, read, device, stream, seconds):
        modes.append(stream)
        return transcribe(network, clips, read, device, stream, seconds)

    monkeypatch.setattr(finetune, "transcribe", watched)
    finish(start(base, tmp_path / "out", table, steps=1))
    assert set(modes) == {None, StepLengths(hop=24, lookahead=12, left=200)}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["live_lookahead_ms"] == 240


def test_a_new_head_keeps_the_rows_of_known_characters(base: Path):
    old = load_base(find_base(str(base)), None).lm_head.weight
    new = load_base(find_base(str(base)), (*SPECIAL, "|", "b", "ü"), seed=3).lm_head.weight
    assert torch.equal(new[0], old[0])
    assert torch.equal(new[4:6], old[[4, 6]])


@pytest.fixture
def last_blank(tmp_path: Path) -> Path:
    """A base whose blank is not token 0."""
    return publish(tmp_path / "last", TINY, ("|", *"ABCDEF", *SPECIAL[::-1]))


def set_padding(base: Path, padding: int | None) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"pad_token_id": padding}))


def test_an_export_names_the_blank_of_a_base_without_padding(last_blank: Path, tmp_path: Path):
    set_padding(last_blank, None)
    base = find_base(str(last_blank))
    export(load_base(base, None), base, None, tmp_path / "out")
    with Recognizer.load(str(tmp_path / "out"), device="cpu", lm="none") as recognizer:
        assert recognizer.encoder.vocabulary == base.vocabulary


def test_a_base_that_does_not_say_its_blank_is_refused_at_once(last_blank: Path):
    set_padding(last_blank, 0)
    with pytest.raises(ModelError, match="does not say which token is CTC's blank"):
        find_base(str(last_blank))


LANGUAGES = {"eng": (*SPECIAL, "|", *"ABCDEF"), "fra": (*SPECIAL, "|", *"ABCDEFGH")}


@pytest.mark.parametrize("language", ["deu", "fra"])
def test_an_adapter_trains_and_loads_beside_the_others(language: str, table: list[Listed], tmp_path: Path):
    base = publish_multilingual(tmp_path / "base", LANGUAGES, target="eng")
    before = {path.name: (path.read_bytes(), path.stat().st_mode) for path in base.iterdir()}
    run = finish(start(base, tmp_path / "out", table, language=language))
    trained = {name for name, p in run._network.model.named_parameters() if p.requires_grad}
    assert trained
    assert all("adapter_layer" in name or name.startswith("lm_head") for name in trained)
    assert {path.name: (path.read_bytes(), path.stat().st_mode) for path in base.iterdir()} == before
    # transformers' own way to load an adapter: from our folder, and from the base with the file beside the others
    shutil.copyfile(tmp_path / "out" / f"adapter.{language}.safetensors", base / f"adapter.{language}.safetensors")
    samples = torch.randn(1, 16_000)
    logits = []
    for folder in (tmp_path / "out", base):
        model = Wav2Vec2ForCTC.from_pretrained(folder).eval()
        model.load_adapter(language, use_safetensors=True)
        with torch.inference_mode():
            logits.append(model(samples).logits)
    own = run._network.model.eval()
    with torch.inference_mode():
        logits += [own(samples).logits, Network(own)(samples, torch.tensor([16_000]))[0]]
    assert torch.allclose(logits[0], logits[1])
    assert torch.allclose(logits[0], logits[2], atol=1e-5)
    assert torch.allclose(logits[0], logits[3], atol=1e-4)
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "out", target_lang=language)
    assert tokenizer.decode([5]) == "A"
    for each in {*LANGUAGES, language}:
        recognizer, _ = heard(tmp_path / "out", table, language=each)
        recognizer.close()


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (SMALL_GROUP_NORM, {}, "cannot hear live steps"),
        (TINY, {"adapter": "deu"}, "no language adapters; leave --adapter out"),
        (TINY | {"adapter_attn_dim": 8}, {}, "name the one to train with --adapter"),
        (TINY | {"conv_stride": (5, 2, 2, 2, 2, 2, 1)}, {}, "one frame of every 320 samples"),
    ],
)
def test_a_base_that_cannot_work_is_refused_with_a_sentence(size: dict, options: dict, message: str, tmp_path: Path):
    publish(tmp_path / "base", size, TOKENS)
    with pytest.raises(ModelError, match=message):
        find_base(str(tmp_path / "base"), **options)


def test_a_folder_with_other_files_is_no_place_for_a_checkpoint(base: Path, table: list[Listed], tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("two years of work")
    with pytest.raises(TrainingError, match="holds other files"):
        start(base, tmp_path, table)
