"""`xlsr-live transcribe` and `xlsr-live stream`: transcripts, formats, several files, pipes, Ctrl-C and tokens."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from xlsr_live.client.cli import run
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.config import ModelOptions
from xlsr_live.streaming.protocol.events import Final, SessionEnded, SessionStarted, from_json
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.recordings import SPEECH, TEXTS, bad_files, flac

Out = pytest.CaptureFixture[str]


def finals(lines: str) -> list[Final]:
    events = [from_json(line) for line in lines.splitlines()]
    return [event for event in events if isinstance(event, Final)]


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("extra", [[], ["--mode", "offline"]])
def test_transcribe(extra: list[str], capsys: Out):
    for name in SPEECH:
        assert run(["transcribe", flac(name), *extra]) == 0
    assert capsys.readouterr().out.splitlines() == [TEXTS[name].capitalize() for name in SPEECH]
    assert run(["transcribe", flac("george"), *extra, "--case", "model"]) == 0
    assert capsys.readouterr().out == TEXTS["george"] + "\n"


@pytest.mark.usefixtures("loaded")
def test_a_ticking_clock_gives_no_text(capsys: Out):
    assert run(["transcribe", flac("clock")]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("mode", ["cached", "window", "offline"])
def test_json_lines_are_a_whole_session(mode: str, capsys: Out):
    assert run(["transcribe", flac("nicolas"), "--format", "jsonl", "--mode", mode]) == 0
    events = [from_json(line) for line in capsys.readouterr().out.splitlines()]
    assert isinstance(events[0], SessionStarted)
    assert events[0].mode == mode
    assert isinstance(events[-1], SessionEnded)
    assert events[-1].audio_s == pytest.approx(5.208, abs=0.001)


def test_one_bad_file_does_not_stop_the_others(loaded: list[ModelOptions], tmp_path: Path, capsys: Out):
    nan, _ = bad_files(tmp_path)["nan"]
    files = [flac("george"), str(tmp_path / "missing.wav"), str(nan), flac("jackson")]
    assert run(["transcribe", *files, "-f", "json"]) == 2
    out, err = capsys.readouterr()
    assert len(loaded) == 1
    assert err.count("\n") == 2
    texts = {document["file"]: document["text"] for document in json.loads(out)}
    assert texts[flac("george")] == TEXTS["george"]
    assert texts[flac("jackson")] == TEXTS["jackson"]


@pytest.mark.usefixtures("loaded")
def test_the_text_before_a_damaged_part_is_kept(tmp_path: Path, capsys: Out):
    samples, rate = soundfile.read(flac("george"), dtype="int16")
    pause = np.zeros(2 * rate, np.int16)
    path, saved = tmp_path / "cut.flac", tmp_path / "cut.srt"
    soundfile.write(path, np.concatenate((samples, pause, samples, pause, samples)), rate)
    path.write_bytes(path.read_bytes()[: -samples.nbytes // 4])
    assert run(["transcribe", str(path), "-o", str(saved)]) == 2
    assert "damaged" in capsys.readouterr().err
    assert saved.read_text().lower().count(TEXTS["george"].lower()) >= 1


@pytest.mark.usefixtures("loaded")
def test_subtitles_for_several_files_go_to_a_folder(tmp_path: Path, capsys: Out):
    folder = tmp_path / "new"
    assert run(["transcribe", flac("george"), flac("clock"), "-f", "vtt", "-o", str(folder)]) == 0
    assert capsys.readouterr().out == ""
    assert TEXTS["george"].capitalize() in (folder / "george.vtt").read_text()
    assert (folder / "clock.vtt").read_text() == "WEBVTT\n\n"


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(("recordings", "output"), [(".", "new"), (".", "new/"), ("george.flac", "new/")])
def test_a_folder_may_hold_one_recording(recordings: str, output: str, tmp_path: Path):
    (tmp_path / "talks").mkdir()
    shutil.copy(flac("george"), tmp_path / "talks" / "george.flac")
    arguments = [f"{tmp_path}/talks/{recordings}", "-f", "vtt", "-o", f"{tmp_path}/{output}"]
    assert run(["transcribe", *arguments]) == 0
    assert TEXTS["george"].capitalize() in (tmp_path / "new" / "george.vtt").read_text()


@pytest.mark.usefixtures("loaded")
def test_output_to_a_file(tmp_path: Path):
    assert run(["transcribe", flac("george"), "-o", str(tmp_path / "george.txt")]) == 0
    assert (tmp_path / "george.txt").read_text() == TEXTS["george"].capitalize() + "\n"


@pytest.mark.usefixtures("loaded")
def test_an_output_file_is_replaced_only_on_demand(tmp_path: Path, capsys: Out):
    arguments = ["transcribe", flac("george"), "-o", str(tmp_path / "talk.txt")]
    (tmp_path / "talk.txt").write_text("notes\n")
    assert run(arguments) == 0
    assert "writing" in capsys.readouterr().err
    assert (tmp_path / "talk.txt").read_text() == "notes\n"
    assert run([*arguments, "--overwrite"]) == 0
    assert (tmp_path / "talk.txt").read_text() == (tmp_path / "talk-1.txt").read_text()
    assert capsys.readouterr().err == ""


def test_options_of_the_model_and_the_session_arrive(loaded: list[ModelOptions], capsys: Out):
    arguments = ["--model", "some/model", "--revision", "abc", "--threads", "1", "--device", "cpu"]
    arguments += ["--dtype", "int8", "--lm", "some.arpa", "--calibration", "fitted"]
    assert run(["transcribe", flac("george"), *arguments, "--no-partials", "-f", "jsonl"]) == 0
    model = {"revision": "abc", "lm": "some.arpa", "calibration": Path("fitted")}
    assert loaded == [ModelOptions("some/model", **model, threads=1, device="cpu", dtype="int8")]
    assert "partial" not in capsys.readouterr().out


def test_an_identification_model_is_for_language_auto(loaded: list[ModelOptions], capsys: Out):
    assert run(["transcribe", flac("george"), "--lid", "some/lid"]) == 2
    assert "--lid is for --language auto" in capsys.readouterr().err
    allowed = ["--allowed-language", "de", "--allowed-language", "en"]
    run(["transcribe", flac("george"), "--lid", "some/lid", "--language", "auto", *allowed])
    assert [options.lid for options in loaded] == ["some/lid"]


def test_a_language_is_that_of_the_model_and_of_the_session(loaded: list[ModelOptions], capsys: Out):
    assert run(["transcribe", flac("george"), "--language", "deu"]) == 2  # the model that is loaded here has only one
    assert capsys.readouterr().err.count("leave the language out") == 1
    auto = ["--language", "auto", "--allowed-language", "de", "--allowed-language", "en"]
    assert run(["transcribe", flac("george"), *auto]) == 2
    assert [options.language for options in loaded] == ["deu", None]


@pytest.mark.usefixtures("loaded")
def test_stream_and_transcribe_give_the_same_text(server: RunningServer, capsys: Out):
    for name in SPEECH:
        assert run(["transcribe", flac(name), "--format", "jsonl"]) == 0
        here = finals(capsys.readouterr().out)
        assert run(["stream", flac(name), "--url", server.url, "--pace", "0"]) == 0  # jsonl, as this is no terminal
        assert finals(capsys.readouterr().out) == here
        assert " ".join(final.text for final in here) == TEXTS[name]


def test_stream_from_a_pipe(server: RunningServer, clip: Callable[[str], np.ndarray]):
    done = subprocess.run(
        [sys.executable, "-m", "xlsr_live.client.cli", "stream", "-", "--url", server.url, "-f", "text"],
        input=clip("jackson").tobytes(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, TEXTS["jackson"].capitalize() + "\n", b"")


def test_a_redirected_file_is_not_live(server: RunningServer):
    arguments = ["stream", "-", "--url", server.url, "-f", "text", "--summary"]
    with Path(flac("jackson")).open("rb") as file:
        command = [sys.executable, "-m", "xlsr_live.client.cli", *arguments]
        done = subprocess.run(command, stdin=file, capture_output=True, timeout=60, check=False, text=True)
    assert (done.returncode, done.stdout) == (0, TEXTS["jackson"].capitalize() + "\n")
    assert "words in" in done.stderr
    assert "word shown" not in done.stderr


def test_ctrl_c_finishes_the_open_utterance(server: RunningServer, clip: Callable[[str], np.ndarray], tmp_path: Path):
    talk = tmp_path / "talk.wav"  # with a minute of silence, so that it cannot end before Ctrl-C
    soundfile.write(talk, np.concatenate([clip("jackson"), np.zeros(60 * 16_000, np.int16)]), 16_000)
    client = subprocess.Popen(
        [sys.executable, "-u", "-m", "xlsr_live.client.cli", "stream", str(talk), "--url", server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert client.stdout is not None
    lines: list[str] = []
    while '"partial"' not in (lines[-1] if lines else ""):  # in the middle of speech
        lines.append(client.stdout.readline())
    client.send_signal(signal.SIGINT)
    out, err = client.communicate(timeout=60)
    assert client.returncode == 130
    assert err == ""
    assert len(finals("".join(lines) + out)) == 1
    assert isinstance(from_json(out.splitlines()[-1]), SessionEnded)


def test_ctrl_c_while_the_pipe_is_silent(server: RunningServer):
    client = subprocess.Popen(
        [sys.executable, "-u", "-m", "xlsr_live.client.cli", "stream", "-", "--url", server.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.buffer.write(bytes(3_200))  # the session starts with the first audio, which may have a header
    client.stdin.flush()
    first = client.stdout.readline()
    client.send_signal(signal.SIGINT)
    client.wait(timeout=60)  # with its standard input still open
    out, err = client.communicate()
    assert (client.returncode, err) == (130, "")
    assert isinstance(from_json(first), SessionStarted)
    assert isinstance(from_json(out.splitlines()[-1]), SessionEnded)


def test_a_token_comes_from_the_environment_or_a_file(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
):

    (tmp_path / "token").write_text("open sesame\n")
    with running_server(recognizer, ServerSettings(token="open sesame")) as guarded:
        arguments = ["stream", flac("george"), "--url", guarded.url, "--pace", "0", "-f", "text"]
        assert run(arguments) == 2
        assert "XLSR_LIVE_TOKEN" in capsys.readouterr().err
        assert run([*arguments, "--token-file", str(tmp_path / "token")]) == 0
        monkeypatch.setenv("XLSR_LIVE_TOKEN", "open sesame")
        assert run(arguments) == 0
    assert capsys.readouterr().out == f"{TEXTS['george'].capitalize()}\n" * 2
