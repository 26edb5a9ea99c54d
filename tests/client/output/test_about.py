"""What `mic` says about its model."""

from __future__ import annotations

import pytest
from xlsr_live.client.output.about import about_loaded, about_model
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.known_models import known_models
from xlsr_live.streaming.languages import name
from xlsr_live.streaming.recognizer import Recognizer

SMALL = " It is small: expect errors."


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (("bundled",), "Model: bundled, English." + SMALL),
        (("owner/unknown",), "Model: owner/unknown."),
        (("owner/german", ["de"], 315_000_000), "Model: owner/german, German."),
        (("facebook/mms-1b-all", ["deu", "eng"], 965_000_000), "Model: facebook/mms-1b-all, German, English."),
        (("mine", [], 6_000_000), "Model: mine." + SMALL),
    ],
)
def test_a_model_is_named_with_its_languages(of: tuple[object, ...], text: str):
    assert about_model(*of) == text  # type: ignore[arg-type]


def test_a_loaded_model_is_described_by_itself(recognizer: Recognizer, packaged: Recognizer):
    config = SessionConfig()
    assert about_loaded(packaged, config, "bundled") == about_model("bundled")
    assert about_loaded(recognizer, config, "digits") == "Model: digits." + SMALL


@pytest.mark.parametrize("short", known_models())
def test_the_language_of_a_known_model_is_that_of_the_list(short: str):
    model = known_models()[short]
    assert about_model(model.hub) == f"Model: {model.hub}" + f", {model.languages}" * bool(model.language) + "."
    assert model.language is None or name(model.language) == model.languages
