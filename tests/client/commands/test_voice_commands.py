"""`xlsr-live commands`: its output, the calls of programs and functions, and errors."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from xlsr_live.client.cli import run
from xlsr_live.client.output.actions import describe
from xlsr_live.client.output.sounds import ACCEPTED, REJECTED, samples
from xlsr_live.server.run import running_server
from xlsr_live.streaming.commands.grammar import parse_grammar
from xlsr_live.streaming.config import ModelOptions
from xlsr_live.streaming.errors import ModelError
from xlsr_live.streaming.protocol.events import Guess, Rejected
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.paths import ROOT

GRAMMARS = sorted((ROOT / "client" / "grammars").glob("*.txt"))
NUMBERS = str(ROOT / "client" / "grammars" / "numbers.txt")
CLIP = str(ROOT / "tests" / "clips" / "george.flac")


@pytest.fixture(autouse=True)
def loaded(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared model of the test run."""

    class Shared:
        def __enter__(self) -> Recognizer:
            return recognizer

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("xlsr_live.client.commands.voice_commands.load_recognizer", lambda *_, **__: Shared())


def test_no_language_model_is_loaded_unless_named(monkeypatch: pytest.MonkeyPatch):
    loaded: list[object] = []

    def load(options: ModelOptions) -> None:
        loaded.append(options.lm)
        raise ModelError("enough")

    monkeypatch.setattr("xlsr_live.client.commands.voice_commands.load_recognizer", load)
    for given in ([], ["--lm", "bundled"]):
        assert run(["commands", NUMBERS, "--say", "one", *given]) == 2
    assert loaded == ["none", "bundled"]


def test_a_command_is_a_line_of_json(capsys: pytest.CaptureFixture[str]):
    assert run(["commands", NUMBERS, CLIP, "--alternatives", "2"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    command = json.loads(line)
    assert (command["type"], command["command"], command["slots"]) == ("command", "digits", {"digits": "129481"})
    assert command["text"] == " ".join(word["word"] for word in command["words"])
    assert command["score"] > 0.9
    assert len({str(other["slots"]) for other in command["alternatives"]} | {str(command["slots"])}) == 3


def test_speech_outside_the_grammar_is_silent_or_printed_as_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    grammar = tmp_path / "seven.txt"
    grammar.write_text("seven: seven\nsix: six three\n")
    assert run(["commands", str(grammar), CLIP]) == 0
    assert capsys.readouterr().out == ""
    assert run(["commands", str(grammar), CLIP, "--rejected"]) == 0
    assert json.loads(capsys.readouterr().out)["type"] == "rejected"


def test_a_terminal_gets_lines_for_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run(["commands", NUMBERS, CLIP]) == 0
    assert re.fullmatch(r"0:00\.\d  digits  digits=129481  score (0\.9\d|1\.00)\n", capsys.readouterr().out)
    (tmp_path / "seven.txt").write_text("seven: seven\nsix: six three\n")
    assert run(["commands", str(tmp_path / "seven.txt"), CLIP]) == 0
    assert re.fullmatch(r"0:0\d\.\d  rejected(  nearest: 's[\w ]+'  score 0\.\d\d)?\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("unmatched", "0:02.5  rejected  nearest: 'kitchen light'  score 0.25"),
        ("asleep", "0:02.5  rejected (no wake phrase)  nearest: 'kitchen light'  score 0.25"),
        ("woken", "0:02.5  wake phrase  score 0.25"),
    ],
)
def test_why_speech_is_rejected(reason: str, line: str):
    best = Guess("light", {"room": "kitchen"}, "KITCHEN LIGHT", 0.25)
    assert describe(Rejected(utterance=0, reason=reason, score=0.25, best=best, audio_s=2.5)) == line


def test_a_program_gets_arguments_and_no_shell(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    code = "import os, sys, json; print(sys.argv[1:], json.loads(os.environ['XLSR_LIVE_COMMAND'])['text'])"
    program = f'{sys.executable} -c "{code}" "a b;c $HOME"'
    assert run(["commands", NUMBERS, CLIP, "--exec", program]) == 0
    printed = capfd.readouterr().out.splitlines()
    assert printed[1] == "['a b;c $HOME', 'digits', 'digits=129481'] ONE TWO NINE FOUR EIGHT ONE"


def test_a_function_gets_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "at_home.py").write_text("told = []\ndef heard(command):\n    told.append(command)\n    1 / 0\n")
    monkeypatch.chdir(tmp_path)
    assert run(["commands", NUMBERS, CLIP, "--call", "at_home:heard"]) == 0
    assert [command["slots"] for command in sys.modules.pop("at_home").told] == [{"digits": "129481"}]


def test_a_server_and_the_events_of_stream_give_the_same_commands(
    recognizer: Recognizer, capsys: pytest.CaptureFixture[str]
):
    with running_server(recognizer) as server:
        assert run(["commands", NUMBERS, CLIP, "--url", server.url]) == 0
        (command,) = map(json.loads, capsys.readouterr().out.splitlines())
        assert (command["command"], command["slots"]) == ("digits", {"digits": "129481"})
        streamed = ["stream", CLIP, "--url", server.url, "--pace", "0", "-f", "jsonl"]
        assert run([*streamed, "--grammar", NUMBERS]) == 0
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        relevant = [event for event in events if event["type"] in ("final", "command", "speech_ended")]
        assert [event["type"] for event in relevant] == ["final", "command", "speech_ended"]
        assert {**relevant[1], "lag_ms": 0, "level": 0} == {**command, "lag_ms": 0, "level": 0}


def test_commands_count_after_the_wake_phrase(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    grammar = tmp_path / "rest.txt"
    grammar.write_text("rest: (digits: <digits>)\n")
    assert run(["commands", str(grammar), CLIP, "--wake", "one two nine"]) == 0
    (command,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert command["slots"] == {"digits": "481"}
    assert run(["commands", str(grammar), CLIP, "--wake", "six six", "--rejected"]) == 0
    assert json.loads(capsys.readouterr().out)["reason"] == "asleep"


def test_text_can_be_matched_without_audio(capsys: pytest.CaptureFixture[str]):
    assert run(["commands", NUMBERS, "--say", "oh one two"]) == 0
    assert json.loads(capsys.readouterr().out) == {"command": "digits", "slots": {"digits": "012"}}
    assert run(["commands", NUMBERS, "--say", "one hundred"]) == 2
    assert "not in the grammar: one hundred; nearest: 'one'" in capsys.readouterr().err


def test_sounds_follow_commands_and_rejections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class FakePortAudio:
        PortAudioError = type("PortAudioError", (Exception,), {})
        played: ClassVar[list[int]] = []

        def play(self, sound: np.ndarray, rate: int, blocking: bool) -> None:
            assert np.abs(sound).max() <= 0.2
            self.played.append(len(sound))
            if len(self.played) > 1:
                raise self.PortAudioError("no output device")

    monkeypatch.setattr("xlsr_live.client.output.sounds.portaudio", FakePortAudio)
    (tmp_path / "seven.txt").write_text("seven: seven\n")
    for grammar, tones in ((NUMBERS, ACCEPTED), (str(tmp_path / "seven.txt"), REJECTED)):
        assert run(["commands", grammar, CLIP, "--sound"]) == 0
        assert FakePortAudio.played[-1] == len(samples(tones))
    assert "no sound: no output device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("grammar", "options", "why"),
    [
        ("a: (one", [], r"g.txt, line 1, column 8: expected '\)'"),
        ("a: (b{2}){2", [], "g.txt, line 1, column"),
        ("a: one", ["--wake", "zap"], "cannot write 'zap'"),
        (
            "a: one\nb: two all",
            [],
            "g.txt, line 2, column 8: the model cannot write all: its vocabulary has no a l",
        ),
        ("a: one", ["--score", "2"], "command_score is 2.0; it must be 0.01 to 1"),
        ("a: one", ["--call", "nowhere:f"], "--call nowhere:f: No module named 'nowhere'"),
        ("a: one", ["--exec", "'"], "--exec"),
        ("a: one", ["--exec", "no-such-program on"], "--exec no-such-program on: program not found: no-such-program"),
        ("a: one", ["--exec", "./no/such/program"], "program not found: ./no/such/program"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    grammar: str, options: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "g.txt").write_text(grammar)
    assert run(["commands", str(tmp_path / "g.txt"), CLIP, *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert why.replace("\\", "") in error


@pytest.mark.parametrize("path", GRAMMARS, ids=lambda path: path.stem)
def test_the_example_grammars_can_be_read(path: Path):
    grammar = parse_grammar(path.read_text(encoding="utf-8"))
    assert grammar.commands
    assert parse_grammar(str(grammar)) == grammar


@pytest.mark.skipif(os.name != "posix", reason="what makes a file executable is different elsewhere")
@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (b"#!/bin/sh\n", 0o644, "is not executable"),
        (b"echo on\n", 0o755, "is a text file without a first line such as #!/bin/sh"),
        (b"\xef\xbb\xbf#!/bin/sh\n", 0o755, "begins with a byte-order mark"),
        (b"#!/no/such/shell\n", 0o755, "the interpreter in the first line"),
        (b"#!/bin/sh\n", 0o755, None),
        (b"#!/usr/bin/env python\n", 0o755, None),
    ],
)
def test_a_program_that_cannot_run_is_noticed_at_the_start(
    content: bytes, mode: int, why: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "lights"
    path.write_bytes(content)
    path.chmod(mode)
    arguments = ["commands", NUMBERS, "--say", "one", "--exec", f"{path} kitchen"]
    assert run(arguments) == (2 if why else 0)
    assert (why or "") in capsys.readouterr().err
