"""The real Apertium: words, programs that die or do not answer, and special characters."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from xlsr_live.streaming.errors import ConfigError
from xlsr_live.streaming.translation.apertium import Apertium
from xlsr_live.streaming.translation.translator import Segment, TranslationError

from tests.support.translators import apertium

SECONDS = 60.0  # for busy machines
SENTENCES = ("ONE TWO THREE", "THE HOUSE IS RED", "GOOD MORNING", "A DOG")


@pytest.fixture(scope="module", autouse=True)
def _patience() -> Iterator[None]:
    """For the start of the programs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xlsr_live.streaming.translation.apertium.ANSWER_S", SECONDS)
        yield


@pytest.fixture(scope="module")
def english() -> Iterator[Apertium]:
    found = apertium()
    found._answer_s = SECONDS
    yield found
    found.close()


def spanish(translator: Apertium, *texts: str) -> list[str]:
    return translator.translate([Segment(text, None, "eng", "spa") for text in texts])


def test_capitals_become_a_spanish_sentence(english: Apertium):
    (text,) = spanish(english, "THE MEN ON BOARD WERE THE FIRST TO SEE THE SMOKE")
    assert text == "Los hombres a bordo eran el primer para ver el humo"


def test_each_sentence_is_answered_by_itself(english: Apertium):
    together = spanish(english, *SENTENCES)
    assert together == [text for each in SENTENCES for text in spanish(english, each)]
    assert len(set(together)) == len(SENTENCES)


def test_unknown_words_stay_and_are_counted(english: Apertium):
    before = english.unknown
    (text,) = spanish(english, "THE ZXQWV IS RED")
    assert text == "El zxqwv es rojo"
    assert english.unknown == before + 1


@pytest.mark.parametrize(
    "text", ["A [B] ^C$ {D} \\ @E #F *G <H> / ~I", "", "   ", "...", "\0", "]", "é ñ 你好", "X\nY"]
)
def test_no_text_puts_the_answers_out_of_step(english: Apertium, text: str):
    spanish(english, text)
    assert spanish(english, "THE HOUSE IS RED") == ["La casa es roja"]


def test_a_program_that_dies_is_started_again_and_counted(english: Apertium):
    spanish(english, "GOOD MORNING")
    before = english.restarts
    (pipeline,) = english._idle.values()
    os.killpg(pipeline._program.pid, signal.SIGKILL)
    pipeline._program.wait()
    with pytest.raises(TranslationError, match="has ended"):
        spanish(english, "GOOD MORNING")
    assert english.restarts == before + 1
    assert spanish(english, "THE HOUSE IS RED") == ["La casa es roja"]


def test_a_program_that_does_not_answer_is_ended_and_started_again(english: Apertium):
    spanish(english, "GOOD MORNING")
    (pipeline,) = english._idle.values()
    os.killpg(pipeline._program.pid, signal.SIGSTOP)
    english._answer_s = 0.01
    with pytest.raises(TranslationError, match="does not answer"):
        spanish(english, "GOOD MORNING")
    english._answer_s = SECONDS
    assert pipeline._program.poll() is not None
    assert spanish(english, "THE HOUSE IS RED") == ["La casa es roja"]


def test_calls_at_the_same_time_get_their_own_answers(english: Apertium):
    """As after a call that was abandoned and still runs."""
    wanted = dict(zip(SENTENCES, spanish(english, *SENTENCES), strict=True))
    with ThreadPoolExecutor(len(wanted)) as pool:
        answers = list(pool.map(lambda text: spanish(english, text)[0], list(wanted) * 5))
    assert answers == list(wanted.values()) * 5


def test_closing_leaves_no_program_behind():
    translator = apertium()
    translator._answer_s = SECONDS
    spanish(translator, "GOOD MORNING")
    (pipeline,) = translator._idle.values()
    os.killpg(pipeline._program.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(spanish, translator, "GOOD MORNING")
        while not translator._busy and not waiting.done():
            pass
        translator.close()
        with pytest.raises(TranslationError):
            waiting.result(SECONDS)
    assert pipeline._program.poll() is not None
    with pytest.raises(TranslationError, match="closed"):
        spanish(translator, "GOOD MORNING")
    assert not translator._idle
    assert not translator._busy


def test_without_pairs_the_message_says_what_to_install(tmp_path: Path):
    with pytest.raises(ConfigError, match="apt install apertium-eng-spa"):
        Apertium(tmp_path)


def test_without_the_program_the_message_says_what_to_install(monkeypatch: Any):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="apt install apertium-eng-spa"):
        Apertium()
