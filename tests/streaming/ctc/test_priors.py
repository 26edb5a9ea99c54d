"""Label priors: what a search adds to the rows, and their file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.ctc.beam import BeamDecoder, decode_beam
from xlsr_live.streaming.ctc.greedy import decode
from xlsr_live.streaming.ctc.lm import LanguageModel, Weights
from xlsr_live.streaming.ctc.priors import FILE, LabelPriors, TokenPriors, load_priors, save_priors
from xlsr_live.streaming.errors import ModelError
from xlsr_live.streaming.model.assets import load_assets
from xlsr_live.streaming.model.source import find_source

from tests.support.checkpoints import SMALL, publish
from tests.support.ngrams import VOCABULARY, arpa, language_model

WEIGHTS = Weights(lm=1.5, word=0.5, beam=20, tokens=5, threshold=12.0, unknown=2.0)
PRIORS = LabelPriors(priors=(0.7, 0.1, 0.1, 0.06, 0.04), scale=0.5)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return language_model(tmp_path_factory.mktemp("lm"), WEIGHTS)


@pytest.fixture(scope="module")
def corrected(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    model = language_model(tmp_path_factory.mktemp("lm"), WEIGHTS)
    model.priors = PRIORS
    return model


def random_rows(frames: int, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, 2, (frames, len(VOCABULARY)))
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def test_a_rare_token_gains_and_the_blank_stays():
    offsets = PRIORS.offsets(0)
    assert offsets[0] == 0
    assert offsets[1] == pytest.approx(0.5 * np.log(0.7 / 0.1))
    assert offsets[4] > offsets[3] > offsets[2] == offsets[1] > 0
    assert not LabelPriors(priors=PRIORS.priors, scale=0).offsets(0).any()
    unseen = LabelPriors(priors=(1.0, 0.0), scale=1.0).offsets(0)
    assert np.isfinite(unseen).all()


def test_priors_are_the_mean_probabilities_of_all_frames():
    rows = [random_rows(30, 1), random_rows(10, 2)]
    counted = TokenPriors()
    for each in rows:
        counted.add(each)
    found = counted.labels(0.3)
    assert found.scale == 0.3
    assert found.priors == pytest.approx(np.exp(np.concatenate(rows)).mean(0), abs=1e-5)
    assert sum(found.priors) == pytest.approx(1, abs=1e-4)


@given(st.integers(1, 80), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_search_takes_corrected_rows_and_confidences_are_those_of_the_model(
    plain: LanguageModel, corrected: LanguageModel, frames: int, seed: int
):
    rows = random_rows(frames, seed)
    rows[0] = np.log([0.05, 0.05, 0.8, 0.05, 0.05])  # the greedy path writes
    shifted = rows + PRIORS.offsets(0)
    totals = np.log(np.exp(shifted).sum(1, keepdims=True))
    by_hand = decode_beam(shifted - totals, plain, 10)
    found = decode_beam(rows, corrected, 10)
    expected = [each.score + totals.sum() for each in by_hand]
    assert [each.score for each in found] == pytest.approx(expected, abs=1e-3)
    for one, other in zip(found, by_hand, strict=True):
        assert [word.text for word in one.words] == [word.text for word in other.words]
        assert all(0 < word.confidence <= 1 for word in one.words)
        parts = one.acoustic + WEIGHTS.lm * one.language + WEIGHTS.word * len(one.words)
        assert one.score == pytest.approx(parts, abs=1e-2)
        assert one.language == pytest.approx(other.language, abs=1e-2)


def test_where_the_greedy_path_writes_nothing_the_search_finds_no_words(corrected: LanguageModel):
    noise = np.log(np.tile(np.float32([0.5, 0.1, 0.2, 0.1, 0.1]), (12, 1)))  # with priors, A is more likely than blank
    noise[::2] = np.log(np.float32([0.9, 0.04, 0.02, 0.02, 0.02]))
    assert decode(noise, VOCABULARY) == []
    assert [each.words for each in decode_beam(noise, corrected, 5)] == [()]
    live = BeamDecoder(corrected, look_back=4)
    live.push(noise)
    assert live.words + live.tail(noise) == []
    speech = noise.copy()
    speech[-1] = np.log(np.float32([0.1, 0.1, 0.6, 0.1, 0.1]))
    assert len(decode_beam(speech, corrected)[0].words) > 0
    assert len(live.tail(speech)) > 0


@given(st.integers(1, 150), st.integers(0, 10_000), st.lists(st.integers(0, 40), max_size=8))
@settings(max_examples=20, deadline=None)
def test_any_split_gives_the_same_words(corrected: LanguageModel, frames: int, seed: int, cuts: list[int]):
    rows = random_rows(frames, seed)
    found = []
    for ends in ([], cuts):
        decoder, at = BeamDecoder(corrected, look_back=30), 0
        for cut in [*ends, len(rows)]:
            decoder.push(rows[at : at + cut])
            at += cut
        decoder.finish()
        found.append(decoder.words)
    assert found[0] == found[1]


def test_a_checkpoint_brings_its_priors_for_any_language_model(tmp_path: Path):
    folder = publish(tmp_path / "model", SMALL)
    lm = tmp_path / "words.arpa"
    lm.write_text(arpa())
    source = find_source(str(folder))
    assert load_assets(source, VOCABULARY, lm).language_model.priors is None
    save_priors(folder, PRIORS)
    assert load_assets(source, VOCABULARY, lm).language_model.priors == PRIORS
    (folder / FILE).write_text("{}")
    assert load_assets(source, VOCABULARY, "none").language_model is None  # and no search reads the priors
    save_priors(folder, PRIORS)
    with pytest.raises(ModelError, match="5 priors, and the model has 6 tokens"):
        load_priors(folder, 6)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"priors": [0.5, 0.5]}', '{"priors": [2.0], "scale": 1}', '{"priors": [0.5], "scale": -1}']
)
def test_another_file_is_refused_by_name(tmp_path: Path, content: str):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ModelError, match=FILE):
        load_priors(tmp_path, 1)


def test_what_is_saved_is_loaded(tmp_path: Path):
    assert load_priors(tmp_path, 5) is None
    save_priors(tmp_path, PRIORS)
    assert load_priors(tmp_path, 5) == PRIORS
