"""What `peers.py` computes itself: the loop of LocalAgreement, and the form in which texts are compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.figures.local_agreement import LocalAgreement, Timed
from tests.figures.peers import comparable, comparable_lines, read, tables


def timed(text: str, start: float = 0.0) -> list[Timed]:
    """Words of half a second each."""
    return [Timed(start + place / 2, start + place / 2 + 0.5, " " + word) for place, word in enumerate(text.split())]


def texts(words: list[Timed]) -> str:
    return "".join(word.text for word in words).strip()


def test_what_two_steps_agree_on_is_committed() -> None:
    state = LocalAgreement(2.0)
    assert not state.receive(timed("so we"), [1.0], 1.0)
    assert texts(state.receive(timed("so we beat on"), [2.0], 2.0)) == "so we"
    assert texts(state.receive(timed("so we beat own boats"), [2.5], 3.0)) == "beat"
    assert texts(state.finish()) == "own boats"
    assert texts(state.committed) == "so we beat own boats"
    assert [word.start for word in state.committed] == [2.0, 2.5, 3.0, 3.5, 4.0]


def test_words_that_a_step_repeats_are_dropped() -> None:
    state = LocalAgreement(0.0)
    for _ in range(2):
        state.receive(timed("so we beat"), [1.5], 2.0)
    repeated = timed("we beat on", start=1.45)
    state.receive(repeated, [3.0], 3.0)
    assert texts(state.receive(repeated, [3.0], 3.0)) == "on"


def test_long_audio_is_cut_at_a_committed_segment() -> None:
    state = LocalAgreement(0.0)
    words = timed(" ".join(["word"] * 34))
    for _ in range(2):
        state.receive(words, [5.0, 10.0, 17.0], 17.0)
    assert state.offset == 10.0
    assert state.prompt == "".join([" word"] * 20)


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("ENTER TWO NINE EIGHT ONE", " Enter 2981."),
        ("ZERO TWO TWO FOUR", "0224"),
        ("ONE TWO FIVE", "1, 2, 5."),
        ("E R I N", "Erin"),
        ("JUNE TWENTY SEVENTH NINETEEN SIXTY EIGHT", "June 27th, 1968"),
        ("MISTER BINGLEY", "Mr. Bingley"),
    ],
)
def test_spellings_of_the_same_words_are_equal(reference: str, text: str) -> None:
    assert comparable(reference) == comparable(text)


def test_an_interrupted_run_continues_and_other_settings_do_not(tmp_path: Path) -> None:
    path, setup = tmp_path / "results" / "peers.jsonl", {"whisper": "base"}
    assert read(path, setup) == []
    line = {"set": "an4", "file": "a.flac", "peer": "whisper", "reference": "TWO NINE", "text": "29", "stream_s": 4.0}
    complete = json.dumps(line | {"cpu_s": 8.0, "first": 1.5, "committed": [2.0, 2.5], "final": 1.25})
    path.write_text(path.read_text() + complete + "\n" + complete[:40])
    (found,) = read(path, setup)
    assert path.read_text().splitlines()[1:] == [complete]
    assert (found.file, found.cpu_s) == ("a.flac", 8.0)
    shown = list(tables([found]))
    assert "| whisper | 0.0 % |  |" in shown
    assert "| whisper | 2.000 | 1.0 | 1.50, 1.50 | 2.25, 2.48 | 1.25, 1.25 |" in shown
    other = replace(found, peer="pocketsphinx", file="b.flac")
    assert comparable_lines([found, replace(found, peer="pocketsphinx"), other])[-1].file == "a.flac"
    with pytest.raises(SystemExit, match="other settings"):
        read(path, {"whisper": "tiny"})
