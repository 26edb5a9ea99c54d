"""The command line's contract: exit status, one line on stderr, what is printed, and what is not imported."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from random import Random

import click
import jiwer
import numpy as np
import pytest
import soundfile
from xlsr_live import client
from xlsr_live.client import cli, console
from xlsr_live.client.cli import run
from xlsr_live.client.commands import doctor
from xlsr_live.client.output.word_errors import edits
from xlsr_live.client.sources.clips import load_clips
from xlsr_live.server.operations.reload import RELOADABLE
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.config import ModelOptions
from xlsr_live.streaming.protocol.events import Final, SessionEnded, SessionStarted, from_json
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.paths import ROOT

CLIPS = ROOT / "tests" / "clips"
TEXTS = {
    "george": "ONE TWO NINE FOUR EIGHT ONE",
    "jackson": "THREE EIGHT FOUR FIVE FIVE FOUR",
    "nicolas": "ZERO TWO TWO FOUR SEVEN SIX ZERO",
}
SPEECH = list(TEXTS)

Out = pytest.CaptureFixture[str]


def flac(name: str) -> str:
    return str(CLIPS / f"{name}.flac")


def finals(lines: str) -> list[Final]:
    events = [from_json(line) for line in lines.splitlines()]
    return [event for event in events if isinstance(event, Final)]


@pytest.fixture
def loaded(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> list[ModelOptions]:
    """The model of the whole test run instead of one for each command; the options of every load."""
    asked: list[ModelOptions] = []

    class Shared:
        def __enter__(self) -> Recognizer:
            return recognizer

        def __exit__(self, *_: object) -> None:
            pass

    def load(options: ModelOptions) -> Shared:
        asked.append(options)
        return Shared()

    monkeypatch.setattr("xlsr_live.client.commands.transcribe.load_recognizer", load)
    return asked


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer) as server:
        yield server


def command(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """A client command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "xlsr_live.client.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,  # type: ignore[call-overload]
    )


# --- bad usage and bad input: status 2 and one line


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    made = {name: folder / f"{name}.wav" for name in ("empty", "noise", "header", "short", "nan", "missing")}
    made["empty"].touch()
    made["noise"].write_bytes(os.urandom(4_000))
    soundfile.write(made["header"], np.zeros(0, np.int16), 16_000)
    soundfile.write(made["short"], np.zeros(3, np.int16), 16_000)
    broken = np.zeros(16_000, np.float32)
    broken[9_000] = np.nan
    soundfile.write(made["nan"], broken, 16_000, subtype="FLOAT")
    words = {
        "empty": "empty",
        "noise": "not an audio file",
        "header": "no audio",
        "short": "at least 25 ms",
        "nan": "not finite",
        "missing": "no such file",
    }
    return {name: (path, words[name]) for name, path in made.items()}


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("name", ["empty", "noise", "header", "short", "nan", "missing"])
@pytest.mark.parametrize("verb", ["transcribe", "stream"])
def test_a_bad_file_is_one_clear_line(verb: str, name: str, tmp_path: Path, capsys: Out, server: RunningServer):
    path, words = bad_files(tmp_path)[name]
    target = ["--url", server.url, "--pace", "0"] if verb == "stream" else []
    assert run([verb, str(path), "-f", "text", *target]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"xlsr-live: {path}: ")
    assert words in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["transcribe"], "FILE"),
        (["transcribe", "a.wav", "--colour", "red"], "--colour"),
        (["transcribe", "a.wav", "--mode", "cubist"], "cubist"),
        (["transcribe", "a.wav", "--pace", "-1"], "-1"),
        (["transcribe", "a.wav", "--hop-ms", "30"], "hop_ms must be a multiple of 20 ms"),
        (["transcribe", "a.wav", "--vad-threshold", "7"], "vad_threshold is 7"),
        (["transcribe", "a.wav", "b.wav", "-f", "srt"], "--output"),
        (["transcribe", "x/a.wav", "y/a.flac", "-f", "srt", "-o", "/tmp"], "same name"),
        (["stream", "a.wav", "--token-file", "/nowhere/token"], "/nowhere/token"),
        (["stream", "-", "--sample-rate", "1000"], "sample_rate is 1000"),
        (["stream", "a.wav", "--encoding", "mulaw"], "--encoding is for raw audio on standard input (-)"),
        (["mic", "--duration", "0"], "duration"),
        (["mic", "--share"], "--share needs a server: --url"),
        (["mic", "--token-file", "token"], "--token-file needs a server: --url"),
        (["mic", "--url", "ws://host", "--model", "bundled"], "--model is for a model in this process"),
        (["mic", "--url", "ws://host", "--compute", "cpu"], "--compute is for a model in this process"),
        (["commands", "g.txt", "--url", "ws://host", "--lm", "none"], "--lm is for a model in this process"),
        (["commands", "g.txt", "a.wav", "--device", "USB"], "--device is for the microphone"),
        (["commands", "g.txt", "--say", "one", "--url", "ws://host"], "--url is for listening"),
        (["bench", "latency", "--url", "ws://host", "--dtype", "int8"], "--dtype is for a model in this process"),
        (["bench", "capacity", "--url", "ws://host", "--threads", "2"], "--threads is for a model in this process"),
        (["serve", "--port", "99999"], "99999"),
        (["dictate"], "dictate"),
        (["--loudly"], "--loudly"),
    ],
)
def test_bad_usage_is_one_clear_line(arguments: list[str], words: str, capsys: Out):
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("xlsr-live: ")
    assert words in err


def test_an_unknown_model_is_one_clear_line(tmp_path: Path, capsys: Out):
    assert run(["transcribe", flac("george"), "--model", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_no_server_is_one_clear_line(capsys: Out):
    assert run(["stream", flac("george"), "--url", "ws://127.0.0.1:9/v1/stream"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "xlsr-live serve" in err


def test_a_taken_port_is_one_clear_line(server: RunningServer, capsys: Out):
    assert run(["serve", "--port", str(server.port)]) == 2
    assert f"port {server.port}" in capsys.readouterr().err


def test_an_error_of_ours_is_not_a_traceback(monkeypatch: pytest.MonkeyPatch, capsys: Out):
    def broken() -> None:
        raise KeyError("oops")

    monkeypatch.setattr("xlsr_live.client.commands.devices.list_devices", broken)
    monkeypatch.delenv("XLSR_LIVE_DEBUG", raising=False)
    assert run(["devices"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("xlsr-live: internal error: KeyError")
    assert err.count("\n") == 1


def test_a_client_without_torch_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: Out):
    def load(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(Recognizer, "from_options", load)
    assert run(["transcribe", flac("george")]) == 2
    assert "pip install 'xlsr-live[server]'" in capsys.readouterr().err


# --- transcribe


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("extra", [[], ["--mode", "offline"]])
def test_transcribe(extra: list[str], capsys: Out):
    for name in SPEECH:
        assert run(["transcribe", flac(name), *extra]) == 0
    assert capsys.readouterr().out.splitlines() == [TEXTS[name] for name in SPEECH]


@pytest.mark.usefixtures("loaded")
def test_nothing_is_heard_in_a_clock(capsys: Out):
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
def test_subtitles_for_several_files_go_to_a_folder(tmp_path: Path, capsys: Out):
    folder = tmp_path / "new"
    assert run(["transcribe", flac("george"), flac("clock"), "-f", "vtt", "-o", str(folder)]) == 0
    assert capsys.readouterr().out == ""
    assert TEXTS["george"] in (folder / "george.vtt").read_text()
    assert (folder / "clock.vtt").read_text() == "WEBVTT\n\n"


@pytest.mark.usefixtures("loaded")
def test_output_to_a_file(tmp_path: Path):
    assert run(["transcribe", flac("george"), "-o", str(tmp_path / "george.txt")]) == 0
    assert (tmp_path / "george.txt").read_text() == TEXTS["george"] + "\n"


def test_options_of_the_model_and_the_session_arrive(loaded: list[ModelOptions], capsys: Out):
    arguments = ["--model", "some/model", "--revision", "abc", "--threads", "1", "--device", "cpu"]
    arguments += ["--dtype", "int8", "--lm", "some.arpa", "--calibration", "fitted"]
    assert run(["transcribe", flac("george"), *arguments, "--no-partials", "-f", "jsonl"]) == 0
    model = {"revision": "abc", "lm": "some.arpa", "calibration": Path("fitted")}
    assert loaded == [ModelOptions("some/model", **model, threads=1, device="cpu", dtype="int8")]
    assert "partial" not in capsys.readouterr().out


def test_a_language_is_that_of_the_model_and_of_the_session(loaded: list[ModelOptions], capsys: Out):
    assert run(["transcribe", flac("george"), "--language", "deu"]) == 2  # the model that is loaded here has only one
    assert capsys.readouterr().err.count("leave the language out") == 1
    auto = ["--language", "auto", "--allowed-language", "de", "--allowed-language", "en"]
    assert run(["transcribe", flac("george"), *auto]) == 2
    assert [options.language for options in loaded] == ["deu", None]


# --- stream


@pytest.mark.usefixtures("loaded")
def test_stream_hears_what_transcribe_hears(server: RunningServer, capsys: Out):
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
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, TEXTS["jackson"] + "\n", b"")


def test_ctrl_c_still_finishes_what_was_being_said(server: RunningServer):
    client = subprocess.Popen(
        [sys.executable, "-u", "-m", "xlsr_live.client.cli", "stream", flac("jackson"), "--url", server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert client.stdout is not None
    lines: list[str] = []
    while '"partial"' not in (lines[-1] if lines else ""):  # somebody is speaking
        lines.append(client.stdout.readline())
    client.send_signal(signal.SIGINT)
    out, err = client.communicate(timeout=20)
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
    client.wait(timeout=20)  # with its standard input still open
    out, err = client.communicate()
    assert (client.returncode, err) == (130, "")
    assert isinstance(from_json(first), SessionStarted)
    assert isinstance(from_json(out.splitlines()[-1]), SessionEnded)


def test_a_token_comes_from_the_environment_or_a_file(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
):
    from xlsr_live.server.settings import ServerSettings

    (tmp_path / "token").write_text("open sesame\n")
    with running_server(recognizer, ServerSettings(token="open sesame")) as guarded:
        arguments = ["stream", flac("george"), "--url", guarded.url, "--pace", "0", "-f", "text"]
        assert run(arguments) == 2
        assert "XLSR_LIVE_TOKEN" in capsys.readouterr().err
        assert run([*arguments, "--token-file", str(tmp_path / "token")]) == 0
        monkeypatch.setenv("XLSR_LIVE_TOKEN", "open sesame")
        assert run(arguments) == 0
    assert capsys.readouterr().out == f"{TEXTS['george']}\n" * 2


# --- the rest


def test_demo_at_once(capsys: Out):
    assert run(["demo", "--pace", "0"]) == 0
    out = capsys.readouterr().out
    assert "ws://127.0.0.1:" in out
    assert "model bundled on" in out
    assert re.search(r"\n  \.\.\. \w.* \(", out)  # committed words, and others that may still change
    live, comparison = out.split("\n\n")[1:3]
    told = re.findall(r"(\w+) +spoken      (.+)\n +recognized  (.+)   \((\d+)", comparison)
    assert [(name, said) for name, said, *_ in told] == [
        (clip.path.stem, clip.text or "(nothing)") for clip in load_clips()
    ]
    finals = [line for line in live.splitlines() if not line.startswith(" ")]
    assert " ".join(heard for *_, heard, _ in told if heard != "(nothing)") == " ".join(finals) != ""
    errors = [
        edits(*(text.replace("(nothing)", "").split() for text in (said, heard)))[-1] for _, said, heard, _ in told
    ]
    assert errors == [int(wrong) for *_, wrong in told]
    assert f"Total: {sum(errors)} of " in out
    assert "xlsr-live mic" in out


def test_word_errors_are_those_of_jiwer():
    random = Random(0)
    for _ in range(50):
        said, heard = ([random.choice("ABC") for _ in range(random.randrange(1, 8))] for _ in range(2))
        assert edits(said, heard)[-1] == round(jiwer.wer(" ".join(said), " ".join(heard)) * len(said))
    assert (edits([], ["A"])[-1], edits(["A", "B"], [])[-1]) == (1, 2)


def test_doctor(monkeypatch: pytest.MonkeyPatch, capsys: Out):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert load_clips()[0].text in out
    assert "http://127.0.0.1:9 cannot be reached" in out


def test_doctor_looks_for_all_that_the_server_needs(monkeypatch: pytest.MonkeyPatch):
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    checks: dict[str, list[str]] = {"": project["dependencies"], "server": project["optional-dependencies"]["server"]}
    for extra, needed in checks.items():
        found = doctor._packages("packages", extra, "bad", "pip install it")
        assert found.state == "ok"
        assert {each.split(" ")[0] for each in found.detail.split(", ")} == {each.split(">=")[0] for each in needed}

    def without(package: str) -> str:
        if package == "python-multipart":
            raise PackageNotFoundError
        return "1.0"

    monkeypatch.setattr(doctor, "version", without)
    assert doctor._packages("recognition", "server", "note", "pip install it") == (
        "note",
        "recognition",
        "missing python-multipart: pip install it",
    )


def every_command(group: click.Group) -> Iterator[click.Command]:
    for each in group.commands.values():
        yield from every_command(each) if isinstance(each, click.Group) else (each,)


def test_every_option_says_what_it_does():
    for each in every_command(cli.cli):
        text = each.get_help(click.Context(each))
        assert "[default: ]" not in text, each.name
        assert not re.search("ecognis|ormalis", text), each.name
        assert [option.opts[0] for option in each.params if isinstance(option, click.Option) and not option.help] == []


def test_a_server_loads_what_its_settings_name(monkeypatch: pytest.MonkeyPatch):
    asked: list[ModelOptions] = []
    monkeypatch.setattr("xlsr_live.client.commands.serve.load_recognizer", asked.append)
    settings = ServerSettings(model="m", revision="r", language="deu", dtype="int8", threads=2, lm="l", calibration="c")
    import_module("xlsr_live.client.commands.serve")._load(settings)
    named = {name: getattr(settings, name) for name in RELOADABLE if name != "max_sessions"}
    assert asked == [ModelOptions(**named)]


def test_help_teaches():
    for arguments in ([], *([name] for name in cli.cli.commands)):
        done = command(*arguments, "--help")
        assert done.returncode == 0
        assert "xlsr-live" in done.stdout
        assert ("Examples:" if arguments else "Start here:") in done.stdout


def test_what_a_client_imports_can_be_listed():
    assert dir(client) == ["ConnectionProblem", "Stream", "connect"]
    assert all(getattr(client, name) for name in dir(client))


def test_version(capsys: Out):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("xlsr-live 0")


@pytest.mark.parametrize(
    "statement",
    [
        "import xlsr_live.client",
        "from xlsr_live.client.cli import run; run(['stream', '--help'])",
        "from xlsr_live.client.cli import run; run(['stream', 'x.wav'])",
        "import xlsr_live.client.remote.websocket, xlsr_live.client.output.display",
        "import xlsr_live.client.sources.microphone",
    ],
)
def test_a_client_never_imports_torch(statement: str):
    heavy = ("torch", "transformers", "soxr", "webrtcvad", "starlette")
    code = f"{statement}; import sys; print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_client_starts_in_under_half_a_second():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert command("stream", "--help").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of the processor, not of the clock: other programs on this machine are none of its business.
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 0.5


def test_the_spinner_is_for_terminals(monkeypatch: pytest.MonkeyPatch):
    silent = io.StringIO()
    monkeypatch.setattr(sys, "stderr", silent)
    with console.waiting("loading"):
        pass
    assert silent.getvalue() == ""
