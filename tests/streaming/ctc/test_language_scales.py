"""Scales of languages: fitting recovers known ones, and depends neither on counts nor on order."""

from __future__ import annotations

import numpy as np
import pytest
from xlsr_live.streaming.ctc.calibration import LanguageScale, fit_languages
from xlsr_live.streaming.errors import ModelError

TRUE = [LanguageScale(scale=6, offset=0), LanguageScale(scale=10, offset=1), LanguageScale(scale=4, offset=-2)]


def sample(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Levels, and languages with the probabilities of `TRUE`."""
    draw = np.random.default_rng(seed)
    levels = -draw.exponential(0.6, (count, len(TRUE)))
    scores = np.column_stack([scale(levels[:, each]) for each, scale in enumerate(TRUE)])
    return levels, (scores + draw.gumbel(size=scores.shape)).argmax(axis=1)


def shares(levels: np.ndarray, scales: list[LanguageScale]) -> np.ndarray:
    scores = np.exp(np.column_stack([scale(levels[:, each]) for each, scale in enumerate(scales)]))
    return scores / scores.sum(axis=1, keepdims=True)


def test_fitting_recovers_known_scales():
    levels, spoken = sample(20_000)
    found = fit_languages(levels, spoken)
    assert [each.scale for each in found] == pytest.approx([each.scale for each in TRUE], rel=0.1)
    # Languages count alike, so each offset also undoes how rare its language is here.
    rarity = np.log(np.bincount(spoken) / len(spoken))
    undone = [each.offset + rare for each, rare in zip(found, rarity, strict=True)]
    wanted = np.array([each.offset for each in TRUE])
    assert np.diff(undone) == pytest.approx(np.diff(wanted), abs=0.25)


def test_it_depends_on_neither_the_order_nor_the_number_of_examples_of_a_language():
    levels, spoken = sample(300)
    plain = shares(levels, fit_languages(levels, spoken))
    order = np.random.default_rng(1).permutation(len(spoken))
    assert shares(levels, fit_languages(levels[order], spoken[order])) == pytest.approx(plain, abs=1e-6)
    often = np.concatenate((np.arange(len(spoken)), np.tile(np.flatnonzero(spoken == 1), 4)))
    assert shares(levels, fit_languages(levels[often], spoken[often])) == pytest.approx(plain, abs=0.05)
    columns = [2, 0, 1]
    turned = fit_languages(levels[:, columns], np.argsort(columns)[spoken])
    assert shares(levels[:, columns], turned) == pytest.approx(plain[:, columns], abs=1e-6)


def test_a_few_examples_stay_near_the_default():
    found = fit_languages(np.array([[-0.2, -0.5], [-0.6, -0.3]]), np.array([0, 1]))
    assert [each.scale for each in found] == pytest.approx([8, 8], rel=0.5)


def test_it_refuses_examples_that_cannot_decide():
    levels, spoken = sample(300)
    with pytest.raises(ModelError, match="each language needs recordings"):
        fit_languages(levels, np.where(spoken == 2, 0, spoken))
    with pytest.raises(ModelError, match="no surer where it is spoken"):
        fit_languages(-levels, spoken)
