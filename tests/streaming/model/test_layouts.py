"""HuBERT and Omnilingual ASR in their published layouts, against transformers' own classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, HubertForCTC, OmniASRForCTC, Wav2Vec2FeatureExtractor
from xlsr_live.streaming.config import ModelOptions, SessionConfig
from xlsr_live.streaming.ctc.greedy import decode
from xlsr_live.streaming.ctc.vocabulary import Vocabulary
from xlsr_live.streaming.errors import ModelError
from xlsr_live.streaming.frames import span
from xlsr_live.streaming.model.cache import CacheManager
from xlsr_live.streaming.model.encoder import XlsrEncoder
from xlsr_live.streaming.model.full_pass import PassEncoder
from xlsr_live.streaming.model.layers import XlsrLayers
from xlsr_live.streaming.model.load import load
from xlsr_live.streaming.model.readback import BEST
from xlsr_live.streaming.model.runners import EagerRunner
from xlsr_live.streaming.model.step import StepEncoder
from xlsr_live.streaming.recognizer import Recognizer
from xlsr_live.streaming.session.decoding import Decoding

from tests.support.cached_reference import Utterance, difference
from tests.support.checkpoints import SMALL, tokenizer
from tests.support.layouts import (
    OMNIASR_SPECIAL,
    PIECES,
    converted,
    pieces_tokenizer,
    publish_hubert,
    publish_omniasr,
)
from tests.support.noise import soft_noise


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_omniasr(tmp_path_factory.mktemp("omniasr"))


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "copy"))


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def omniasr_reference(directory: Path, samples: np.ndarray) -> tuple[np.ndarray, str]:
    """Log-probabilities and text by transformers alone."""
    model, processor = OmniASRForCTC.from_pretrained(directory).eval(), AutoProcessor.from_pretrained(directory)
    with torch.inference_mode():
        logits = model(**processor(samples, sampling_rate=16_000)).logits[0]
    text = processor.decode(logits.argmax(-1), skip_special_tokens=True)
    return logits.log_softmax(-1).numpy(), text


def load_here(directory: Path) -> XlsrEncoder:
    return load(ModelOptions(str(directory), device="cpu"))


# ── rows and text ──


@pytest.mark.parametrize("one_file", [True, False])
def test_omniasr_has_the_rows_and_the_text_of_transformers(tmp_path: Path, one_file: bool):
    directory = publish_omniasr(tmp_path, one_file=one_file)
    samples = soft_noise(32_000)
    if one_file:
        rows, text = omniasr_reference(directory, samples)
    else:
        rows, text = omniasr_reference(publish_omniasr(tmp_path / "one"), samples)
    with Recognizer.load(str(directory), device="cpu") as recognizer:
        assert recognizer.info.modes[0] == "cached"
        assert recognizer.encoder.vocabulary.blank == 0
        assert np.allclose(recognizer.encoder.encode([recognizer.encoder.normalize(samples)])[0], rows, atol=1e-4)
        (final,) = recognizer.transcribe(samples, SessionConfig(vad="none", trailing_blank_ms=0))
    assert final.text == " ".join(text.split())
    assert len(final.text.split()) > 5


def test_soft_audio_shows_that_the_extractors_epsilon_is_omniasrs(small: Path):
    samples = soft_noise(32_000) * 0.02
    rows, _ = omniasr_reference(small, samples)
    with Recognizer.load(str(small), device="cpu") as recognizer:
        final = recognizer.offline(samples)
        assert np.allclose(recognizer.encoder.encode([recognizer.encoder.normalize(samples)])[0], rows, atol=1e-4)
        expected = decode(rows, recognizer.encoder.vocabulary)
    assert final is not None
    assert final.text == " ".join(word.text for word in expected)


@pytest.mark.parametrize("extras", [{}, {"feat_extract_norm": "group", "do_stable_layer_norm": False}])
def test_hubert_has_the_rows_and_the_text_of_transformers(tmp_path: Path, extras: dict[str, Any]):
    directory = publish_hubert(tmp_path, SMALL | extras)
    samples = soft_noise(24_000)
    inputs = Wav2Vec2FeatureExtractor.from_pretrained(directory)(samples, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        logits = HubertForCTC.from_pretrained(directory).eval()(inputs.input_values).logits[0]
    with Recognizer.load(str(directory), device="cpu") as recognizer:
        rows = recognizer.encoder.encode([recognizer.encoder.normalize(samples)])[0]
        assert np.allclose(rows, logits.log_softmax(-1).numpy(), atol=1e-4)
        (final,) = recognizer.transcribe(samples, SessionConfig(vad="none"))
    assert final.text == " ".join(tokenizer(directory).decode(logits.argmax(-1)).split())


@pytest.mark.parametrize("kind", ["hubert", "omniasr"])
def test_one_cached_step_over_everything_is_the_full_pass(tmp_path: Path, kind: str):
    directory = {"hubert": publish_hubert, "omniasr": publish_omniasr}[kind](tmp_path)
    edit(directory / "config.json", live_lookahead_ms=320)
    encoder = load_here(directory)
    assert encoder.info.lookahead_ms == 320
    assert encoder.cached
    samples = soft_noise(span(70))
    whole = Utterance(samples, 70, 0, 0).run(encoder.cached)
    assert difference(whole.rows, encoder.encode([samples])) < 1e-4


@pytest.mark.parametrize("changes", [{"conv_pos_batch_norm": True}, {"feat_proj_layer_norm": False}])
def test_other_kinds_of_hubert_are_refused(tmp_path: Path, changes: dict[str, Any]):
    directory = publish_hubert(tmp_path)
    edit(directory / "config.json", **changes)
    with pytest.raises(ModelError, match="unusual kind"):
        load_here(directory)


# ── tokens ──


def test_pieces_write_what_their_decoder_says(small: Path):
    texts = load_here(small).vocabulary.texts
    assert texts == ("", "", "", "", *PIECES[4:])


@pytest.mark.parametrize("mark", [" ", "▁"])
def test_words_begin_where_pieces_say_so(tmp_path: Path, mark: str):
    """Also for SentencePiece's own mark, with its own decoder."""
    from tokenizers import decoders

    pieces = [piece.replace(" ", mark) for piece in PIECES]
    directory = publish_omniasr(tmp_path)
    made = pieces_tokenizer(pieces)
    if mark == "▁":
        made.backend_tokenizer.decoder = decoders.Metaspace()
    made.save_pretrained(directory)
    vocabulary = load_here(directory).vocabulary
    ids = [PIECES.index(piece) for piece in (" th", "a", "ing", " ", "b", "ß", " a", "你", " th")]
    rows = np.full((2 * len(ids), len(PIECES)), -20, np.float32)
    rows[np.arange(0, 2 * len(ids), 2), ids] = 0
    rows[1::2, 0] = 0
    words = decode(rows, vocabulary)
    assert [word.text for word in words] == ["thaing", "bß", "a你", "th"]
    assert [(word.start, word.end) for word in words] == [(0, 5), (8, 11), (12, 15), (16, 17)]
    assert " ".join(word.text for word in words) == made.decode(ids).strip()


def test_bytes_are_no_characters(copy: Path):
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    letters = [*OMNIASR_SPECIAL, *"abcdefghij", "Ã", "Ł"]  # the bytes C3 and 9F of ß, as byte-level BPE shows them
    backend = Tokenizer(models.BPE({token: index for index, token in enumerate(letters)}, []))
    backend.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>").save_pretrained(copy)
    with pytest.raises(ModelError, match="bytes"):
        load_here(copy)


# ── the blank ──


def test_the_blank_is_the_one_that_the_config_names(copy: Path):
    edit(copy / "config.json", blank_token_id=4)
    assert load_here(copy).vocabulary.blank == 4


@pytest.mark.parametrize("blank", [-1, len(PIECES)])
def test_a_blank_that_is_no_output(copy: Path, blank: int):
    edit(copy / "config.json", blank_token_id=blank)
    with pytest.raises(ModelError, match="CTC's blank"):
        load_here(copy)


CONVERTED: dict[str, dict[str, Any]] = {
    "pieces, blank named": {"config": {"blank_token_id": 0}},
    "dictionary, blank named": {"vocab": True, "config": {"blank_token_id": 0}},
    "dictionary, blank as padding": {"vocab": True, "pad": "<s>", "config": {"pad_token_id": 0}},
}


@pytest.mark.parametrize("kind", list(CONVERTED))
def test_converted_copies_of_omniasr_write_the_same(small: Path, tmp_path: Path, kind: str):
    samples = soft_noise(24_000)
    _, text = omniasr_reference(small, samples)
    directory = converted(tmp_path / "copy", small)
    _save_tokens(directory, CONVERTED[kind])
    with Recognizer.load(str(directory), device="cpu") as recognizer:
        assert recognizer.encoder.vocabulary.blank == 0
        final = recognizer.offline(samples)
    assert final is not None
    assert final.text == " ".join(text.split())


AMBIGUOUS: dict[str, dict[str, Any]] = {
    "fairseq2's order": {"vocab": True},
    "another padding in the config": {"vocab": True, "tokens": PIECES[::-1], "config": {"pad_token_id": 3}},
    "a token called blank": {"vocab": True, "tokens": ("<blank>", *PIECES[1:]), "config": {"pad_token_id": 1}},
}


@pytest.mark.parametrize("kind", list(AMBIGUOUS))
def test_a_blank_that_could_be_another_is_refused(small: Path, tmp_path: Path, kind: str):
    directory = converted(tmp_path / "copy", small)
    _save_tokens(directory, AMBIGUOUS[kind])
    with pytest.raises(ModelError, match="blank_token_id"):
        load_here(directory)


def _save_tokens(directory: Path, kind: dict[str, Any]) -> None:
    edit(directory / "config.json", **kind.get("config", {}))
    if not kind.get("vocab"):
        pieces_tokenizer(PIECES).save_pretrained(directory)
        return
    tokens = kind.get("tokens", PIECES)
    (directory / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    settings = {"pad_token": kind.get("pad", "<pad>"), "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    settings |= {"tokenizer_class": "Wav2Vec2CTCTokenizer", "word_delimiter_token": " "}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))


# ── what decodes pieces ──


def clear(ids: list[int], likely: float) -> np.ndarray:
    """Rows in which each token is likely, with a blank after it."""
    rows = np.full((2 * len(ids), len(PIECES)), 1e-9, np.float32)
    rows[np.arange(0, 2 * len(ids), 2), ids] = likely
    rows[1::2, 0] = 1
    return np.log(rows / rows.sum(1, keepdims=True))


@pytest.mark.parametrize("spelling", [(" th", "a", "ing"), (" th", "a", "ing", " "), (" ", " th", "a", "ing")])
def test_a_command_is_found_in_pieces_of_any_spelling(spelling: tuple[str, ...]):
    vocabulary = Vocabulary(("", "", "", "", *PIECES[4:]), 0)
    decoding = Decoding(vocabulary, SessionConfig(grammar="go: thaing\nback: bad\n"))
    rows = clear([PIECES.index(piece) for piece in spelling], 0.95)
    transcript = decoding.final(span(len(rows)), awake=False)(rows)
    assert transcript.decision is not None
    assert transcript.decision.accepted
    assert transcript.decision.best is not None
    assert transcript.decision.best.meaning.command == "go"


def test_a_hotword_wins_over_a_similar_word_in_pieces():
    vocabulary = Vocabulary(("", "", "", "", *PIECES[4:]), 0)
    ids = [PIECES.index(piece) for piece in (" a", "b", " th", "e", "ing", " a")]
    rows = clear(ids, 0.9)
    rows[6, PIECES.index("a")] = rows[6, PIECES.index("e")] - 0.5
    for hotwords, expected in (((), "ab theing a"), (("thaing:3",), "ab thaing a")):
        decoding = Decoding(vocabulary, SessionConfig(hotwords=hotwords))
        live = decoding.begin(0)
        live.push(rows)
        words = [*live.words, *live.pending()]
        assert " ".join(word.text for word in words) == expected
        final = decoding.final(span(len(rows)))(rows)
        assert " ".join(word.text for word in final.words) == expected


def test_only_the_best_tokens_of_a_large_vocabulary_come_back_and_the_text_is_the_same(tmp_path: Path):
    pieces = (*OMNIASR_SPECIAL, " ", *(chr(0x4E00 + index) for index in range(995)))
    encoder = load_here(publish_omniasr(tmp_path, SMALL, pieces))
    network = XlsrLayers(encoder._model)
    caches = CacheManager(network.pool, most_bytes=1 << 28)
    samples = soft_noise(24_000, 3) * 10
    (whole,) = encoder.encode([samples])
    (best,) = PassEncoder(network, caches, EagerRunner(torch.device("cpu")), best=BEST).encode([samples], [None])
    assert best.shape == whole.shape
    assert decode(best, encoder.vocabulary) == decode(whole, encoder.vocabulary)
    stepped = Utterance(samples, 20, 10, 50).run(
        StepEncoder(network, caches, EagerRunner(torch.device("cpu")), best=BEST)
    )
    assert encoder.cached
    exact = Utterance(samples, 20, 10, 50).run(encoder.cached)
    for ours, theirs in zip(stepped.rows, exact.rows, strict=True):
        assert (ours.argmax(1) == theirs.argmax(1)).all()
        assert np.allclose(ours.max(1), theirs.max(1), atol=1e-5)


# ── full size ──


@pytest.mark.slow
def test_omniasr_300m_streams_with_its_whole_vocabulary(tmp_path: Path):
    pieces = (*OMNIASR_SPECIAL, " ", *(chr(0x4E00 + index) for index in range(10_288 - 5)))
    directory = publish_omniasr(tmp_path, {}, pieces)
    try:
        with Recognizer.load(str(directory), device="cpu") as recognizer:
            assert recognizer.info.parameters == pytest.approx(325.5e6, rel=0.01)
            assert recognizer.info.vocabulary == 10_288
            events = list(
                recognizer.stream(soft_noise(48_000), SessionConfig(vad="none", hop_ms=1_000, lookahead_ms=500))
            )
    finally:
        shutil.rmtree(directory)
    kinds = [type(event).__name__ for event in events]
    assert kinds[-1] == "SessionEnded"
    assert "Final" in kinds
    assert "Error" not in kinds
