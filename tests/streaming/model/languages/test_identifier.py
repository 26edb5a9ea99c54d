"""An identification model beside the recognizer: transformers' own logits, and from them the language of utterances."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import Wav2Vec2ForSequenceClassification
from xlsr_live.streaming.audio.normalize import normalize
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.errors import ConfigError, ModelError
from xlsr_live.streaming.frames import span
from xlsr_live.streaming.languages import find_classes
from xlsr_live.streaming.model.encoder import XlsrEncoder
from xlsr_live.streaming.model.identifier import load_identifier
from xlsr_live.streaming.model.int8 import supported
from xlsr_live.streaming.protocol.events import Final, LanguageIdentified, Partial
from xlsr_live.streaming.recognizer import Recognizer
from xlsr_live.streaming.requests import MULTIPLE

from tests.support.checkpoints import SMALL, publish
from tests.support.identification import LABELS, certain_of, lid_model, publish_head, publish_lid
from tests.support.languages import Float32, opened
from tests.support.noise import noise, soft_noise

AUDIO = [noise(span(count), count) for count in (70, 25, 48)]
ALLOWED = {"language": "auto", "allowed_languages": ("de", "en"), "vad": "none"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_lid(tmp_path_factory.mktemp("lid"))


def logits(model: Wav2Vec2ForSequenceClassification, samples: Float32) -> Float32:
    """By transformers alone."""
    with torch.inference_mode():
        return model(torch.from_numpy(normalize(samples))[None]).logits[0].numpy()


def running(rows: Float32) -> Float32:
    """Logits after each frame, except for one number that is the same for all classes."""
    means = rows.astype(float).cumsum(0) / np.arange(1, len(rows) + 1)[:, None]
    return means - means.mean(1, keepdims=True)


@pytest.mark.parametrize("batch", [1, 8])
def test_the_logits_are_those_of_transformers(checkpoint: Path, folder: Path, batch: int):
    """At the end of the audio, and of each part of its rows that is committed."""
    encoder, _ = opened(checkpoint, max_batch=batch)
    identifier, model = load_identifier(str(folder), encoder), lid_model()
    assert identifier.labels == LABELS
    for rows, samples in zip(identifier.begin(AUDIO)(), AUDIO, strict=True):
        want = logits(model, samples)
        assert np.allclose(running(rows)[-1], want - want.mean(), atol=1e-4)
        assert np.ptp(want) > 0.1
    with torch.inference_mode():
        hidden = model.wav2vec2(torch.from_numpy(normalize(AUDIO[0]))[None]).last_hidden_state[0]
        for frame in (1, 24, 69):
            want = model.classifier(model.projector(hidden[:frame].mean(0))).numpy()
            assert np.allclose(running(identifier.begin(AUDIO[:1])()[0])[frame - 1], want - want.mean(), atol=1e-4)


def test_a_batch_may_hold_its_rows_beside_those_of_languages(checkpoint: Path, single: XlsrEncoder, folder: Path):
    encoder, _ = opened(checkpoint, max_batch=8)
    encoder.identifier = load_identifier(str(folder), encoder)
    languages = ["eng", MULTIPLE, "deu"]
    for got, language, samples in zip(encoder.encode(AUDIO, None, languages), languages, AUDIO, strict=True):
        (want,) = (
            encoder.identifier.begin([samples])()
            if language == MULTIPLE
            else single.encode([samples], None, [language])
        )
        assert np.allclose(got, want, atol=1e-5)


def test_a_head_alone_reads_the_encoder_of_the_recognizer(checkpoint: Path, tmp_path: Path):
    """Without the adapters of its languages."""
    model, weights = lid_model(("en", "German")), load_file(checkpoint / "model.safetensors")
    base = {name: tensor for name, tensor in weights.items() if name.startswith("wav2vec2.") and "adapter" not in name}
    assert not model.load_state_dict(base, strict=False).unexpected_keys
    encoder, _ = opened(checkpoint, max_batch=1)
    alone = encoder.encode(AUDIO[:1], None, ["deu"])[0]
    identifier = load_identifier(str(publish_head(tmp_path, model)), encoder)
    for rows, samples in zip(identifier.begin(AUDIO)(), AUDIO, strict=True):
        want = logits(model, samples)
        assert np.allclose(running(rows)[-1], want - want.mean(), atol=1e-4)
    assert np.array_equal(encoder.encode(AUDIO[:1], None, ["deu"])[0], alone)


@pytest.mark.skipif(not supported(), reason="this processor has no 8-bit products")
def test_int8(checkpoint: Path, folder: Path):
    encoder, _ = opened(checkpoint, dtype="int8", max_batch=1)
    (rows,) = load_identifier(str(folder), encoder).begin(AUDIO[:1])()
    want = logits(lid_model(), AUDIO[0])
    assert np.abs(running(rows)[-1] - (want - want.mean())).max() < 0.1 * np.ptp(want)


# ── the language of utterances ──


@pytest.mark.parametrize(("label", "code"), [("deu", "deu"), ("eng", "eng")])
def test_the_head_decides_among_the_allowed_languages_alone(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str, code: str
):
    """Although it says French. The utterance is then encoded in its language only, and partials follow the decision."""
    folder = publish_lid(tmp_path, certain_of(label, 3.0))
    asked: set[str | None] = set()
    encode = XlsrEncoder.encode

    def watched(self: XlsrEncoder, batch: Any, cached: Any = None, languages: Any = None, **options: Any) -> Any:
        asked.update(languages or ())
        return encode(self, batch, cached, languages, **options)

    monkeypatch.setattr(XlsrEncoder, "encode", watched)
    samples = soft_noise(16_000 * 4)
    with Recognizer.load(str(checkpoint), device="cpu", lid=str(folder)) as recognizer:
        events = list(recognizer.stream(samples, SessionConfig(**ALLOWED)))
        offline = recognizer.offline(samples, SessionConfig(**ALLOWED))
    (found,) = [event for event in events if isinstance(event, LanguageIdentified)]
    assert (found.language, found.probability) == (code, round(1 / (1 + math.exp(-3)), 3))
    texts = [event for event in events if isinstance(event, Partial | Final)]
    assert {event.language for event in texts} == {code}
    assert events.index(found) < events.index(texts[0])
    assert asked == {MULTIPLE, code}
    assert offline is not None
    assert offline.language == code


def test_a_head_that_cannot_decide_says_und(checkpoint: Path, tmp_path: Path):
    folder = publish_lid(tmp_path, certain_of("fra", 9))
    with Recognizer.load(str(checkpoint), device="cpu", lid=str(folder)) as recognizer:
        events = list(recognizer.stream(soft_noise(16_000 * 4), SessionConfig(**ALLOWED)))
    (found,) = [event for event in events if isinstance(event, LanguageIdentified)]
    assert (found.language, found.probability) == ("und", 0.5)
    assert [event for event in events if isinstance(event, Final)]


def test_languages_and_classes():
    codes = ("deu", "cmn-script_simplified", "arb", "kmr-script_latin")
    assert find_classes(codes, ("ku: Kurdish", "ar", "Mandarin", "de", "xx"), "lid") == {
        "deu": (3,), "cmn-script_simplified": (2,), "arb": (1,), "kmr-script_latin": (0,)
    }  # fmt: skip
    assert find_classes(("zlm", "deu"), ("deu", "msa", "zlm"), "lid") == {"zlm": (2,), "deu": (0,)}
    with pytest.raises(
        ConfigError, match=r"^lid cannot identify 'xho' \(Xhosa\), only 2 other languages: leave it out"
    ):
        find_classes(("deu", "xho"), ("deu", "eng"), "lid")
    with pytest.raises(ConfigError, match=r"^lid cannot tell 'srp-script_cyrillic' from 'srp-script_latin'"):
        find_classes(("srp-script_cyrillic", "srp-script_latin"), ("srp", "eng"), "lid")


def test_a_language_that_the_head_lacks_is_refused(checkpoint: Path, folder: Path):
    with Recognizer.load(str(checkpoint), device="cpu", lid=str(folder)) as recognizer:
        assert len(recognizer.languages.load("auto", ("de", "en"))) == 2
        assert len(recognizer.languages.load("tha")) == 1
        with pytest.raises(ConfigError, match="cannot identify 'tha'"):
            recognizer.languages.load("auto", ("de", "tha"))
    with pytest.raises(ConfigError, match="cannot identify 'tha'"):
        Recognizer.load(
            str(checkpoint), device="cpu", lid=str(folder), language="auto", allowed_languages=("de", "tha")
        )


# ── checkpoints that are refused ──


def edited(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["Wav2Vec2ForCTC"]}, "is Wav2Vec2ForCTC, not Wav2Vec2ForSequenceClassification"),
        ({"do_stable_layer_norm": False}, "is not built as XLS-R is"),
        ({"use_weighted_layer_sum": True}, "use_weighted_layer_sum"),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, "needs id2label"),
        ({"conv_stride": [5, 2, 2, 2, 2, 2, 1]}, "one frame of every 320 samples"),
        ({"hidden_size": 48}, "cannot be loaded|lacks weights"),
    ],
)
def test_a_checkpoint_that_cannot_identify_is_refused(
    single: XlsrEncoder, folder: Path, tmp_path: Path, changes: dict[str, Any], words: str
):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    edited(copy, **changes)
    with pytest.raises(ModelError, match=words) as error:
        load_identifier(str(copy), single)
    assert "\n" not in str(error.value)


def test_a_head_that_does_not_fit_is_refused(single: XlsrEncoder, tmp_path: Path):
    publish_head(tmp_path / "wide", lid_model(size=SMALL | {"hidden_size": 48}))
    with pytest.raises(ModelError, match="a head for 48 features, which"):
        load_identifier(str(tmp_path / "wide"), single)
    model = lid_model()
    del model.projector
    publish_head(tmp_path / "half", model)
    with pytest.raises(ModelError, match="lacks a part of its head"):
        load_identifier(str(tmp_path / "half"), single)


def test_a_model_with_one_language_needs_no_identification(tmp_path: Path, folder: Path):
    with pytest.raises(ModelError, match="does not have several languages to choose from"):
        Recognizer.load(str(publish(tmp_path)), device="cpu", lid=str(folder))
