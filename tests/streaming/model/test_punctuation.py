"""Punctuation and case of finals: models of the published layout, and the rule without a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from xlsr_live.streaming import Final, ModelError, Recognizer, SessionConfig, SpeechEnded
from xlsr_live.streaming.captions.punctuation import as_displayed, punctuate_pauses, same_words
from xlsr_live.streaming.model.punctuation import PunctuationModel, load_punctuation
from xlsr_live.streaming.protocol.events import Word

pytest.importorskip("onnx")
pytest.importorskip("sentencepiece")
from tests.support.punctuation_models import publish

WORDS = {
    "how": ("¿", "How", ""),
    "are": ("", "are", ""),
    "you": ("", "you", "?"),
    "the": ("", "The", ""),
    "usa": ("", "USA", "<ACRONYM>"),
    "mcdonald": ("", "McDonald", ","),
    "one": ("", "One", "."),
    "two": ("", "two", ""),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PunctuationModel:
    return PunctuationModel("tiny", publish(tmp_path_factory.mktemp("punctuation"), WORDS))


def test_a_model_restores_punctuation_and_case(model: PunctuationModel):
    assert model("HOW ARE YOU", True) == "¿How are you?"
    assert model("the usa mcdonald two", False) == "The U.S.A. McDonald, two"
    assert model("one", True) == "One."


def test_long_texts_pass_in_windows(model: PunctuationModel):
    words = ["one", "two", "the", "are", "you"] * 20  # a window has ten pieces
    shown = {"one": "One.", "two": "two", "the": "The", "are": "are", "you": "you?"}
    for count in (9, 10, 11, 20, 21, 99, 100):
        assert model(" ".join(words[:count]), True) == " ".join(shown[word] for word in words[:count])


def test_words_that_the_model_does_not_know_stay(model: PunctuationModel):
    assert model("ZÜRICH IS TWO", True) == "Zürich is two."
    assert model("ZÜRICH IS TWO", False) == "Zürich is two"


def test_vowel_signs_are_part_of_a_word():
    assert not same_words("किताब", "कताब")
    assert same_words("किताब", "किताब!")


def test_files_of_either_name_are_found(tmp_path: Path):
    folder = publish(tmp_path, WORDS, graph="model.onnx", pieces="sp.model")
    assert load_punctuation(str(folder))("one", True) == "One."


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "punct_cap_seg_en.onnx").unlink(), r"no files \*.onnx"),
        (lambda folder: (folder / "other.model").touch(), r"2 files \*.model"),
        (lambda folder: (folder / "config.yaml").unlink(), "cannot be loaded: .*config.yaml"),
        (lambda folder: (folder / "config.yaml").write_text("max_length: many"), "cannot be loaded"),
        (lambda folder: (folder / "punct_cap_seg_en.onnx").write_bytes(b"damaged"), "cannot be loaded"),
    ],
)
def test_a_damaged_model_is_one_sentence(tmp_path: Path, change: Callable[[Path], object], words: str):
    change(publish(tmp_path, WORDS))
    with pytest.raises(ModelError, match=words) as refused:
        load_punctuation(str(tmp_path))
    assert "\n" not in str(refused.value)


def test_a_name_that_is_no_model_is_refused():
    with pytest.raises(ModelError, match="no such folder"):
        load_punctuation("./missing")


def test_the_rule_without_a_model():
    assert load_punctuation(None) is punctuate_pauses
    assert punctuate_pauses("ONE I'M TWO", True) == "One I'm two."
    assert punctuate_pauses("eins Zwei", True) == "Eins Zwei."
    assert punctuate_pauses("eins Zwei", False) == "Eins Zwei"


def test_words_are_the_same_without_punctuation():
    assert same_words("HOW'S THE U S A", "How's the U. S. A.?")
    assert not same_words("one two", "One three.")


def test_words_of_a_final_are_those_of_its_display_text():
    words = tuple(Word(word, 0.0, 1.0, 1.0) for word in ("ONE", "TWO"))
    final = Final(utterance=0, text="ONE TWO", words=words, start=0, end=1, confidence=1, display_text="One, two.")
    assert [word.word for word in as_displayed(final).words] == ["One,", "two."]
    assert as_displayed(final).text == "One, two."


def test_a_session_adds_the_field_and_leaves_the_text(recognizer: Recognizer, clip: Callable[[str], np.ndarray]):
    audio = np.tile(clip("george").astype(np.float32) / 32_768, 2)
    plain = recognizer.transcribe(audio, SessionConfig(max_utterance_ms=3_000))
    events = list(recognizer.stream(audio, SessionConfig(max_utterance_ms=3_000, punctuation=True)))
    finals = [event for event in events if isinstance(event, Final)]
    reasons = {event.utterance: event.reason for event in events if isinstance(event, SpeechEnded)}
    assert [(final.text, final.words) for final in finals] == [(final.text, final.words) for final in plain]
    assert {reasons[final.utterance] for final in finals} > {"length"}
    for final in finals:
        stop = "" if reasons[final.utterance] == "length" else "."
        assert final.display_text == final.text.capitalize() + stop
