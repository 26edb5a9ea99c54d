"""Texts of finals for people: a model makes them in another thread, and no failure of it loses a final."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from xlsr_live.streaming.captions.punctuation import Punctuate, punctuate_pauses
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.protocol.events import Final

from tests.support.driving import run, timeless
from tests.support.fakes import sound
from tests.support.strategies import seeds

SPEECH = [sound("..AB CD ............ABC.............D AB"), np.zeros(32_000, np.float32)]
CONFIG = SessionConfig(punctuation=True)


def shouting(text: str, ended: bool) -> str:
    return f"{text}!" if ended else text


def failing(text: str, ended: bool) -> str:
    raise RuntimeError("out of memory")


def finals(punctuate: Punctuate, random: Random | None = None) -> list[Final]:
    return [each for each in run(SPEECH, CONFIG, punctuate=punctuate, random=random) if isinstance(each, Final)]


@pytest.mark.parametrize(
    ("punctuate", "shown"),
    [(shouting, "{}!"), (punctuate_pauses, None), (failing, None)],
    ids=["model", "rule", "failure"],
)
def test_every_final_has_its_text_for_people(punctuate: Punctuate, shown: str | None):
    found = finals(punctuate)
    assert len(found) == 3
    for final in found:
        want = punctuate_pauses(final.text, True) if shown is None else shown.format(final.text)
        assert final.display_text == want


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_late_answers_of_the_model_change_no_event(seed):
    assert timeless(run(SPEECH, CONFIG, punctuate=shouting, random=Random(seed))) == timeless(
        run(SPEECH, CONFIG, punctuate=shouting)
    )
