"""The examples in docs/guide.md print the transcript."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.native_reference import Samples, as_file, native_finals
from tests.support.paths import ROOT

DOC = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
HERE, THERE = DOC.split("\n## In Python\n")[1].split("\n## A client of a server\n")
THERE = THERE.split("\n## ")[0]
OPTIONS = ["--experimental-websocket"]  # Node 20 needs this flag


def example(text: str, language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return found


def hurried(script: str, pause: str, none: str, server: RunningServer | None = None) -> str:
    """The script without its pauses, at the test's server."""
    assert pause in script
    script = script.replace(pause, none)
    return script.replace("127.0.0.1:8765", f"127.0.0.1:{server.port}") if server else script


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer) as server:
        yield server


@pytest.fixture
def transcript(
    server: RunningServer, brief: Callable[[str], Samples], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The transcript of `talk.wav`, which lies in the working directory of the examples."""
    monkeypatch.chdir(tmp_path)
    Path("talk.wav").write_bytes(as_file(brief("george")))
    return " ".join(final.text for final in native_finals(server, brief("george").tobytes()))


def run(script: str) -> None:
    exec(compile(script, "example", "exec"), {"__name__": "__main__"})


def test_a_stream_in_python(transcript: str, packaged: Recognizer, capsys: pytest.CaptureFixture[str]):
    run(hurried(example(HERE, "python"), "pace=1.0", "pace=0"))
    printed = capsys.readouterr().out
    assert " | " in printed
    assert printed.endswith("\n".join(final.text for final in packaged.transcribe("talk.wav")) + "\n")


def test_a_client_in_python(transcript: str, server: RunningServer, capsys: pytest.CaptureFixture[str]):
    run(hurried(example(THERE, "python"), "sleep(0.1)", "sleep(0)", server))
    printed = capsys.readouterr()
    assert " | " in printed.out
    assert printed.out.splitlines()[-1] == transcript
    assert not printed.err


def test_a_client_in_python_prints_why_it_stops(transcript: str, server: RunningServer):
    script = example(THERE, "python")
    with pytest.raises(SystemExit, match=r"nothing answers .* \(refused\)"):
        run(script.replace("127.0.0.1:8765", "127.0.0.1:1"))
    elsewhere = f"127.0.0.1:{server.port}/nowhere"
    with pytest.raises(SystemExit, match="HTTP 404"):
        run(script.replace("127.0.0.1:8765", elsewhere))


def test_a_client_in_javascript(transcript: str, server: RunningServer):
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node (Debian's package nodejs)")
    known = subprocess.run([node, *OPTIONS, "-p", "typeof WebSocket"], capture_output=True, text=True)
    if known.stdout.strip() != "function":
        pytest.skip("this Node has no WebSocket; version 22 has")
    script = hurried(example(THERE, "js"), "resolve, 100)", "resolve, 0)", server)
    Path("client.mjs").write_text(script)
    ran = subprocess.run([node, *OPTIONS, "client.mjs"], capture_output=True, text=True, timeout=60, check=True)
    assert " | " in ran.stdout
    assert ran.stdout.splitlines()[-1] == transcript


def test_every_error_code_of_a_client_is_documented():
    source = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "client" / "remote").glob("*.py")))
    documented = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", THERE, re.MULTILINE))))
    codes = set(re.findall(r'(?<!Warning\()\bcode ?= ?"(\w+)"', source))  # without those of the server
    assert codes >= {"refused", "closed_early"}
    assert codes <= documented
