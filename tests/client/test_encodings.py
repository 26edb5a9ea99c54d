"""Output whose encoding lacks characters, file names that are not UTF-8, byte-order marks, and a full disk."""

from __future__ import annotations

import codecs
import io
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from xlsr_live.client.cli import run
from xlsr_live.client.options.server import read_token
from xlsr_live.client.output.open import written
from xlsr_live.client.output.summary import read_reference
from xlsr_live.client.sources import devices
from xlsr_live.client.sources.devices import Device
from xlsr_live.streaming.errors import ConfigError, XlsrLiveError
from xlsr_live.streaming.protocol.events import Event, Final, SessionEnded, SessionStarted, SpeechEnded, Word, from_json
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.paths import CLIPS

FORMATS = ["text", "plain", "jsonl", "json", "srt", "vtt"]
TEXT = "STRAẞE ÉTÉ 語"
SPOKEN = "One two nine four eight one"
EVENTS: list[Event] = [
    SessionStarted(session="s", model="m", mode="cached"),
    Final(utterance=0, text=TEXT, words=tuple(Word(w, n, n + 0.9, 0.9) for n, w in enumerate(TEXT.split())), start=0.0,
          end=3.0, confidence=0.9),
    SpeechEnded(utterance=0, end=3.0, reason="silence"),
    SessionEnded(audio_s=3.0, utterances=1),
]  # fmt: skip


class Shared:
    """The shared model of the test run, which no command closes."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.recognizer = recognizer

    def __enter__(self) -> Recognizer:
        return self.recognizer

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def loaded(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("transcribe", "voice_commands"):
        monkeypatch.setattr(f"xlsr_live.client.commands.{name}.load_recognizer", lambda _: Shared(recognizer))


Command = Callable[..., tuple[int, bytes, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command; its status, standard output in bytes, and messages."""

    def run_command(*arguments: str, encoding: str = "ascii") -> tuple[int, bytes, str]:
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        err = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")
        with monkeypatch.context() as context:
            context.setattr(sys, "stdout", out)
            context.setattr(sys, "stderr", err)
            status = run(arguments)
            out.flush()
            err.flush()
        return status, out.buffer.getvalue(), err.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]

    return run_command


@contextmanager
def full_disk() -> Generator[None]:
    """No file can grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def printed(form: str, encoding: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The bytes that a format writes to a standard output of this encoding."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    monkeypatch.setattr(sys, "stdout", stream)
    with written(form, None) as output:
        output.begin("talk.wav")
        for event in EVENTS:
            output.show(event)
    stream.flush()
    return stream.buffer.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
@pytest.mark.parametrize("form", FORMATS)
def test_machine_formats_are_utf8_and_text_replaces_missing_characters(
    form: str, encoding: str, monkeypatch: pytest.MonkeyPatch
):
    data = printed(form, encoding, monkeypatch)
    if form in ("text", "plain"):
        assert TEXT.encode(encoding, "replace") in data
    else:
        assert data == printed(form, "utf-8", monkeypatch)
        assert TEXT in data.decode()
        assert b"\r" not in data


@pytest.fixture
def latin1_name(tmp_path: Path) -> Path:
    """A recording whose name is not UTF-8."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.flac"))
    try:
        shutil.copy(CLIPS / "george.flac", path)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    return path


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("form", ["text", "jsonl", "json"])
def test_a_folder_with_a_name_that_is_not_utf8(form: str, latin1_name: Path, encoding: str, command: Command):
    shutil.copy(CLIPS / "jackson.flac", latin1_name.with_name("größe.flac"))
    status, out, err = command("transcribe", str(latin1_name.parent), "-f", form, encoding=encoding)
    assert (status, err) == (0, "")
    text = out.decode()
    for spoken in (SPOKEN, "Three eight four five five four"):
        assert (spoken if form == "text" else spoken.upper()) in text
    if form == "jsonl":
        names = {json.loads(line)["file"] for line in text.splitlines()}
        assert {Path(name).name for name in names} == {"caf�.flac", "größe.flac"}
        assert all(from_json(line) for line in text.splitlines())


def test_results_of_a_name_that_is_not_utf8_and_offline(latin1_name: Path, command: Command):
    folder = latin1_name.parent
    assert command("transcribe", str(folder), "-f", "srt", "-o", str(folder / "out")) == (0, b"", "")
    (written,) = (folder / "out").iterdir()
    assert (written.stem, written.suffix) == (latin1_name.stem, ".srt")
    assert SPOKEN in written.read_text()
    status, out, err = command("transcribe", str(latin1_name), "-f", "jsonl", "--mode", "offline")
    assert (status, err) == (0, "")
    assert json.loads(out.splitlines()[0])["session"] == "caf�.flac"


def test_a_bad_file_whose_name_is_not_utf8_does_not_stop_the_others(latin1_name: Path, command: Command):
    latin1_name.write_bytes(b"no audio")
    status, out, err = command("transcribe", str(latin1_name), str(CLIPS / "george.flac"), "-f", "plain")
    assert status == 2
    assert SPOKEN in out.decode()
    assert err.count("\n") == 1
    assert "not an audio file" in err


def test_commands_are_utf8(tmp_path: Path, command: Command):
    (tmp_path / "grammar.txt").write_text("größe: (n: (one)=größe)\n", encoding="utf-8")
    status, out, _ = command("commands", str(tmp_path / "grammar.txt"), "--say", "one")
    assert (status, json.loads(out.decode())) == (0, {"command": "größe", "slots": {"n": "größe"}})


def test_names_of_microphones_are_printed_in_any_encoding(monkeypatch: pytest.MonkeyPatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", stream)
    found = [Device(0, "Höhrer 語", "ALSA", 1, 16_000, True)]
    monkeypatch.setattr("xlsr_live.client.commands.devices.input_devices", lambda: found)
    assert devices.choose(found, None) is found[0]
    assert run(["devices"]) == 0
    stream.flush()
    assert b"H\xf6hrer ?" in stream.buffer.getvalue()  # type: ignore[attr-defined]


# --- byte-order marks


@pytest.mark.parametrize(
    ("read", "expected"), [(read_token, "secret"), (read_reference, ["secret"])], ids=["token", "reference"]
)
def test_a_byte_order_mark_is_no_text_and_utf16_is_named(read, expected: object, tmp_path: Path):  # type: ignore[no-untyped-def]
    path = tmp_path / "file.txt"
    path.write_bytes(codecs.BOM_UTF8 + b"secret\r\n")
    assert read(path) == expected
    path.write_text("secret", encoding="utf-16")
    with pytest.raises(ConfigError, match=rf"cannot read the .*{path}: it is UTF-16"):
        read(path)


def test_a_grammar_with_a_byte_order_mark(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "grammar.txt"
    path.write_bytes(codecs.BOM_UTF8 + b"digits: (n: <digit>+)\r\n")
    arguments = ["commands", str(path), "--say", "one two"]
    assert run(arguments) == 0
    assert json.loads(capsys.readouterr().out)["slots"] == {"n": "12"}
    path.write_text("digits: one", encoding="utf-16")
    assert run(arguments) == 2
    assert "it is UTF-16 or UTF-32; save it as UTF-8" in capsys.readouterr().err


def test_a_module_with_a_byte_order_mark_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from xlsr_live.client.output.actions import function

    (tmp_path / "marked.py").write_bytes(codecs.BOM_UTF8 + b"calls = []\nact = calls.append\n")
    monkeypatch.chdir(tmp_path)
    function("marked:act")({"command": "light"})
    assert sys.modules.pop("marked").calls == [{"command": "light"}]
    (tmp_path / "wide.py").write_text("act = print\n", encoding="utf-16")
    with pytest.raises(ConfigError, match="--call wide:act: "):
        function("wide:act")


# --- a full disk


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_names_the_file_and_leaves_no_partial_file(form: str, tmp_path: Path, command: Command):
    target = tmp_path / "out"
    with full_disk():
        status, _, err = command("transcribe", str(CLIPS / "george.flac"), "-f", form, "-o", str(target))
    assert status == 2
    assert f"cannot write {target}: File too large" in err
    assert err.count("\n") == 1
    assert not target.exists()


@pytest.mark.parametrize("name", ["a.vtt", "a.srt", "a.jsonl"])
def test_captions_on_a_full_disk_leave_no_empty_file(name: str, tmp_path: Path, command: Command):
    target = tmp_path / name
    with full_disk():
        status, out, err = command("transcribe", str(CLIPS / "george.flac"), "--captions", str(target))
    assert status == 0
    assert SPOKEN in out.decode()
    first, last = err.splitlines()
    assert f"cannot write captions to {target} (File too large)" in first
    assert f"captions are missing in {target} (File too large)" in last
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_standard_output_that_is_full_is_named_once():
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "xlsr_live.client.cli", "stream", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == b"xlsr-live: standard output: No space left on device\n"


def test_a_file_that_was_not_written_is_an_error_that_names_it(tmp_path: Path):
    with (
        pytest.raises(XlsrLiveError, match=f"cannot write {tmp_path}/no/out: No such file"),
        written("text", tmp_path / "no" / "out"),
    ):
        pass
