"""The contract of the command line: exit status, one line on stderr, output, and imports."""

from __future__ import annotations

import io
import re
import resource
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from random import Random

import click
import jiwer
import pytest
from xlsr_live import client
from xlsr_live.client import cli, console
from xlsr_live.client.cli import run
from xlsr_live.client.commands import doctor
from xlsr_live.client.output.word_errors import edits
from xlsr_live.client.sources.clips import load_clips
from xlsr_live.server.operations.reload import RELOADABLE
from xlsr_live.server.run import RunningServer
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.config import ModelOptions
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.paths import ROOT
from tests.support.recordings import bad_files, flac
from tests.support.translators import LIMIT, apertium, service

Out = pytest.CaptureFixture[str]


def command(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """A client command in its own process."""
    return subprocess.run(
        [sys.executable, "-m", "xlsr_live.client.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,  # type: ignore[call-overload]
    )


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
        (["transcribe", flac("george"), "--captions", "es=talk.vtt"], "--translate es"),
        (["transcribe", "x/a.wav", "y/a.flac", "-f", "srt", "-o", "/tmp"], "same name"),
        (["stream", "a.wav", "--token-file", "/nowhere/token"], "/nowhere/token"),
        (["stream", "-", "--sample-rate", "1000"], "sample_rate is 1000"),
        (["stream", "a.wav", "--encoding", "mulaw"], "--encoding is for raw audio on standard input (-)"),
        (["mic", "--duration", "0"], "duration"),
        (["mic", "--share"], "--share needs a server: --url"),
        (["mic", "--token-file", "token"], "--token-file needs a server: --url"),
        (["mic", "--url", "ws://host", "--model", "bundled"], "--model is for a model in this process"),
        (["mic", "--url", "ws://host", "--device", "cpu"], "--device is for a model in this process"),
        (["commands", "g.txt", "--url", "ws://host", "--lm", "none"], "--lm is for a model in this process"),
        (["commands", "g.txt", "a.wav", "--microphone", "USB"], "--microphone is for live audio"),
        (["mic", "--device", "USB"], "a microphone is --microphone USB"),
        (["transcribe", "a.wav", "--device", "gpu"], "'gpu' is not one of auto, cpu, cuda"),
        (["transcribe", "a.wav", "--device", "cuda:x"], "'cuda:x' is not one of auto, cpu, cuda"),
        (["mic", "--url", "studio:port"], "--url"),
        (["mic", "--url", "ftp://studio"], "ftp://studio is not an address"),
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


def test_a_port_in_use_is_one_clear_line(server: RunningServer, capsys: Out):
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


def test_a_client_without_torch_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch, capsys: Out):
    def load(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(Recognizer, "from_options", load)
    assert run(["transcribe", flac("george")]) == 2
    assert "pip install 'xlsr-live[server]'" in capsys.readouterr().err


def test_demo_without_pacing(capsys: Out):
    assert run(["demo", "--pace", "0"]) == 0
    out = capsys.readouterr().out
    assert "ws://127.0.0.1:" in out
    assert "model bundled on" in out
    assert re.search(r"\n  \.\.\. \w.* \(", out)  # committed words, and others that may still change
    live, comparison = out.split("\n\n")[1:3]
    rows = re.findall(r"(\w+) +spoken      (.+)\n +recognized  (.+)   \((\d+)", comparison)
    assert [(name, reference.upper()) for name, reference, *_ in rows] == [
        (clip.path.stem, clip.text or "(NOTHING)") for clip in load_clips()
    ]
    finals = [line for line in live.splitlines() if not line.startswith(" ")]
    texts = [hypothesis.upper() for *_, hypothesis, _ in rows if hypothesis != "(nothing)"]
    assert " ".join(texts) == " ".join(finals).upper() != ""
    errors = [
        edits(*(text.replace("(nothing)", "").upper().split() for text in (reference, hypothesis)))[-1]
        for _, reference, hypothesis, _ in rows
    ]
    assert errors == [int(wrong) for *_, wrong in rows]
    assert f"Total: {sum(errors)} of " in out
    assert "xlsr-live mic" in out


def test_demo_in_a_second_language(capsys: Out, monkeypatch: pytest.MonkeyPatch):
    translator = apertium()
    translator._answer_s = LIMIT
    with Recognizer.load(device="cpu", adaptive=False, lm="none") as recognizer:
        recognizer.translation = service(translator, call_timeout_s=LIMIT, max_lag_s=LIMIT)
        monkeypatch.setattr("xlsr_live.client.commands.demo.load_recognizer", lambda options: recognizer)
        assert run(["demo", "--pace", "0", "--translate", "Spanish"]) == 0
    finals = [line for line in capsys.readouterr().out.split("\n\n")[1].splitlines() if not line.startswith(" ")]
    originals = [line for line in finals if not line.startswith("[es] ")]
    assert len(finals) == 2 * len(originals) > 0
    assert "cuatro" in " ".join(finals)


def test_word_errors_equal_those_of_jiwer():
    random = Random(0)
    for _ in range(50):
        reference, hypothesis = ([random.choice("ABC") for _ in range(random.randrange(1, 8))] for _ in range(2))
        assert edits(reference, hypothesis)[-1] == round(
            jiwer.wer(" ".join(reference), " ".join(hypothesis)) * len(reference)
        )
    assert (edits([], ["A"])[-1], edits(["A", "B"], [])[-1]) == (1, 2)


def test_doctor(monkeypatch: pytest.MonkeyPatch, capsys: Out):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert load_clips()[0].text in out
    assert "http://127.0.0.1:9 cannot be reached" in out


def test_doctor_ends_with_the_commands_that_work(monkeypatch: pytest.MonkeyPatch):
    good = {name: doctor.Finding("ok", name, "") for name in ("packages", "recognition", "model", "microphone")}
    monkeypatch.setattr(doctor, "version", lambda _: "1.0")
    assert doctor.abilities(good) == (["transcribe", "serve", "stream", "mic", "commands", "bench"], [])
    deaf = good | {"microphone": doctor.Finding("note", "microphone", "no input device")}
    assert doctor.abilities(deaf)[1] == ["mic (no input device)"]
    client_only = good | {"recognition": doctor.Finding("note", "recognition", "missing torch: pip install it")}
    can, not_yet = doctor.abilities(client_only)
    assert can == ["stream"]
    assert set(not_yet) == {
        f"{name} (missing torch: pip install it)" for name in set(doctor.abilities(good)[0]) - {"stream"}
    }


def test_doctor_checks_every_dependency_of_the_server(monkeypatch: pytest.MonkeyPatch):
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


def test_every_option_has_a_help_text():
    for each in every_command(cli.cli):
        text = each.get_help(click.Context(each))
        assert "[default: ]" not in text, each.name
        assert not re.search("ecognis|ormalis", text), each.name
        assert [option.opts[0] for option in each.params if isinstance(option, click.Option) and not option.help] == []


def test_a_server_loads_the_model_of_its_settings(monkeypatch: pytest.MonkeyPatch):
    loaded_options: list[ModelOptions] = []
    monkeypatch.setattr("xlsr_live.client.commands.serve.load_recognizer", loaded_options.append)
    settings = ServerSettings(model="m", revision="r", language="deu", dtype="int8", threads=2, lm="l", calibration="c")
    import_module("xlsr_live.client.commands.serve").load_model(settings)
    named = {name: getattr(settings, name) for name in RELOADABLE if name != "max_sessions"}
    assert loaded_options == [ModelOptions(**named)]


def test_help_has_examples():
    for arguments in ([], *([name] for name in cli.cli.commands)):
        done = command(*arguments, "--help")
        assert done.returncode == 0
        assert "xlsr-live" in done.stdout
        assert ("Examples:" if arguments else "Start here:") in done.stdout


def test_the_imports_of_a_client_can_be_listed():
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
    def start_s() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert command("stream", "--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # CPU time, because other programs on this machine affect the wall clock.
        return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)

    assert any(start_s() < 0.5 for _ in range(5))  # they affect the caches, too


def test_the_spinner_is_for_terminals(monkeypatch: pytest.MonkeyPatch):
    silent = io.StringIO()
    monkeypatch.setattr(sys, "stderr", silent)
    with console.waiting("loading"):
        pass
    assert silent.getvalue() == ""
