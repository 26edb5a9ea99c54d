"""Calibrated confidences: fitting recovers a known distortion, and writing and reading are inverse."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.client.bench.word_correctness import ScoredWords, correct_words
from xlsr_live.client.commands.calibrate import calibrate
from xlsr_live.streaming.config import ModelOptions
from xlsr_live.streaming.ctc.assets import Assets
from xlsr_live.streaming.ctc.calibration import (
    FILE,
    Calibration,
    Curve,
    LanguageScale,
    fit,
    level,
    levels,
    load_calibration,
    reliability,
    save_calibration,
)
from xlsr_live.streaming.ctc.greedy import DecodedWord
from xlsr_live.streaming.errors import ModelError

from tests.support.fakes import FakeEncoder, sound

TRUE = Curve(temperature=1.8, level=0.8, offset=-0.6)


def sample(words: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, levels, and words that are right with the probability of `TRUE`."""
    rng = np.random.default_rng(seed)
    scores, levels = -rng.exponential(1.0, words), -rng.exponential(0.3, words)
    return scores, levels, rng.random(words) < TRUE(scores, levels)


def known(confidences: list[float] | None) -> list[float]:
    assert confidences is not None
    return confidences


def test_a_calibration_of_the_language_alone_changes_no_confidence():
    assert Calibration(language=LanguageScale(scale=3.0)).of_final(WORDS) is None
    assert Calibration().of_beam_partial(WORDS) is None


def test_fitting_recovers_a_known_temperature():
    found = fit(*sample(40_000))
    assert found.temperature == pytest.approx(TRUE.temperature, rel=0.05)
    assert found.level == pytest.approx(TRUE.level, rel=0.1)
    assert found.offset == pytest.approx(TRUE.offset, abs=0.05)


def test_unseen_words_become_calibrated():
    scores, levels, right = sample(20_000, seed=1)
    found = fit(*sample(2_000))
    assert reliability(found(scores, levels), right).error < 0.03
    assert reliability(np.exp(scores), right).error > 0.1


def test_calibrated_scores_stay_as_they_are():
    scores = -np.random.default_rng(0).exponential(1.0, 40_000)
    right = np.random.default_rng(1).random(40_000) < np.exp(scores)
    found = fit(scores, np.full(40_000, np.log(0.5)), right)
    assert (found.temperature, found.offset) == (pytest.approx(1.0, abs=0.05), pytest.approx(0.0, abs=0.05))
    assert found.level == pytest.approx(0.0, abs=1e-6)  # no evidence for another one


@given(st.floats(-20, 0), st.floats(-20, 0), st.floats(-3, 0))
@settings(deadline=None)
def test_confidences_lie_between_0_and_1_and_rise_with_the_score(one: float, other: float, of: float):
    low, high = TRUE(np.array(sorted((one, other))), np.array([of, of]))
    assert 0 <= low <= high <= 1


def test_the_error_is_the_distance_between_confidence_and_truth():
    found = reliability(np.repeat([0.3, 0.9], 50), np.repeat([False, True], 50), bins=2)
    assert found.confidence.tolist() == pytest.approx([0.3, 0.9])
    assert found.right.tolist() == [0, 1]
    assert found.error == pytest.approx((0.3 + 0.1) / 2)
    assert reliability(np.array([0.5]), np.array([True])).error == 0.5


def test_scores_on_another_scale_are_fitted_too():
    scores, levels, right = sample(5_000)
    sure = np.log1p(-1e-5 * np.exp(-scores))  # far off in logits, where whole steps of Newton's method go too far
    assert reliability(fit(sure, levels, right)(sure, levels), right).error < 0.05


@pytest.mark.parametrize("right", [np.ones(500, bool), np.zeros(500, bool), np.arange(20) > 9])
def test_too_little_to_fit_is_refused(right: np.ndarray):
    with pytest.raises(ModelError, match=f"^{len(right)} words"):
        fit(np.full(len(right), -0.5), np.zeros(len(right)), right)


def test_confidences_that_mislead_are_refused():
    scores, levels, _ = sample(1_000)
    with pytest.raises(ModelError, match="words with a higher score are not more often right"):
        fit(scores, np.zeros_like(levels), scores < -1)


WORDS = [DecodedWord("A", 0, 3, -0.2, 2), DecodedWord("B", 5, 9, -1.0, 1), DecodedWord("C", 9, 10, -0.1, 1)]


def test_confidences_of_a_partial_do_not_depend_on_later_rows():
    calibration = Calibration(final=TRUE, partial=TRUE)
    assert known(calibration.of_partial(WORDS))[:2] == calibration.of_partial(WORDS[:2])
    assert levels(WORDS) == pytest.approx([-0.1, -0.4, -1.3 / 4])
    assert known(calibration.of_final(WORDS))[2] == known(calibration.of_partial(WORDS))[2]
    assert calibration.of_final([]) == calibration.of_partial([]) == []
    assert level([]) == 0.0


def test_words_of_a_beam_use_the_level_of_the_greedy_path():
    beam = Curve(temperature=3.0, level=1.0, offset=-1.0)
    calibration = Calibration(final=TRUE, partial=TRUE, beam=beam)
    (found,) = known(calibration.of_beam(WORDS[:1], WORDS))
    assert found == pytest.approx(float(beam(np.array([-0.2]), np.array([-1.3 / 4]))[0]))
    assert Calibration(final=TRUE, partial=TRUE).of_beam(WORDS, WORDS) == calibration.of_final(WORDS)


def test_writing_and_reading_a_calibration_are_inverse(tmp_path: Path):
    assert load_calibration(tmp_path) is None
    calibration = Calibration(final=TRUE, partial=Curve(), beam=Curve(level=-1.0))
    assert save_calibration(tmp_path, calibration) == tmp_path / FILE
    assert load_calibration(tmp_path) == calibration


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "is not a calibration"),
        ('{"final": {}}', "`final` and `partial` go together"),
        ('{"final": {}, "partial": {}, "other": 1}', "unknown field `other`"),
        ('{"final": {"temperature": 0}, "partial": {}}', "the temperature is 0"),
        ('{"final": {}, "partial": {}, "version": 2}', "version 2"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, content: str, why: str):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ModelError, match=why):
        load_calibration(tmp_path)


def test_words_are_right_if_the_best_alignment_pairs_them():
    assert correct_words(["A", "B", "C", "D"], ["A", "C", "C", "D", "E"]) == [True, False, True, True, False]
    assert correct_words([], ["A"]) == [False]
    assert correct_words(["A"], []) == []


def test_a_recording_is_scored_by_a_curve_fitted_without_it():
    judged = ScoredWords()
    for recording in range(40):  # all words of a recording are right or all are wrong, as its level predicts
        right = recording % 2 == 0
        words = [DecodedWord("A", 0, 1, -0.5, 1)] * 10
        judged.add(recording, ["A" if right else "B"] * 10, words, [-0.1 if right else -2.0] * 10)
    assert judged.cross_validate().error == pytest.approx(judged.test(judged.fit()).error, abs=0.02)


class Doubtful(FakeEncoder):
    """Gives the letter H a lower probability than other letters."""

    def rows(self, samples: np.ndarray, language: str | None = None) -> np.ndarray:
        rows = super().rows(samples, language)
        rows[rows.argmax(axis=1) == 9] *= 0.6
        return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))


def test_calibrate_prints_its_file_and_test_its_quality(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    loaded_options: list[ModelOptions] = []

    def load(options: ModelOptions) -> nullcontext[SimpleNamespace]:
        loaded_options.append(options)
        own = load_calibration(Path(options.calibration)) if options.calibration else None
        return nullcontext(SimpleNamespace(encoder=Doubtful(), assets=Assets(calibration=own)))

    monkeypatch.setattr("xlsr_live.client.commands.calibrate.load_recognizer", load)
    lines = ["file\ttext"]
    for number in range(12):
        soundfile.write(tmp_path / f"{number}.wav", sound("AB CH EF GH AC BD " + "~" * number), 16_000, "FLOAT")
        lines.append(f"{number}.wav\tAB EF AC BD")
    table = tmp_path / "some.tsv"
    table.write_text("\n".join(lines) + "\n")
    out, plot = tmp_path / "out", tmp_path / "plot.png"
    given = ["some/model", str(table), "--plot", str(plot), "--dtype", "int8"]
    result = CliRunner().invoke(calibrate, [*given, "--out", str(out)], catch_exceptions=False)
    assert f"written: {out / FILE}" in result.output
    assert "finals: 72 words, 66.7 % right, expected calibration error 0." in result.output
    assert load_calibration(out) is not None
    assert plot.read_bytes().startswith(b"\x89PNG")
    loaded = ["--calibration", str(out)]
    tested = CliRunner().invoke(calibrate, [*given, "--test", *loaded], catch_exceptions=False)
    assert "written: " + str(out / FILE) not in tested.output
    assert "partials: " in tested.output
    assert [(each.model, each.dtype) for each in loaded_options] == 2 * [("some/model", "int8")]
    assert "no calibration to test" in str(CliRunner().invoke(calibrate, [*given, "--test"]).exception)
    for wrong in (loaded, ["--test", "--out", str(out)]):
        assert CliRunner().invoke(calibrate, [*given, *wrong]).exit_code == 2


@pytest.mark.parametrize("model", ["some/model", "bundled"])
def test_calibrate_requires_an_output_file_for_a_model_outside_the_users_folders(model: str):
    result = CliRunner().invoke(calibrate, [model, "nowhere.tsv"])
    assert "--out" in str(result.exception)
