"""Output whose encoding lacks characters, file names that are not UTF-8, byte-order marks, and a full disk."""

from __future__ import annotations

import codecs
import io
import json
import os
import shutil
import subprocess
import sys
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

from tests.support.paths import CLIPS, DIGITS

FORMATS = ["text", "plain", "jsonl", "json", "srt", "vtt"]
TEXT = "STRAẞE ÉTÉ 語"
SPOKEN = "ONE TWO NINE FOUR EIGHT ONE"
EVENTS: list[Event] = [
    SessionStarted(session="s", model="m", mode="cached"),
    Final(utterance=0, text=TEXT, words=tuple(Word(w, n, n + 0.9, 0.9) for n, w in enumerate(TEXT.split())), start=0.0,
          end=3.0, confidence=0.9),
    SpeechEnded(utterance=0, end=3.0, reason="silence"),
    SessionEnded(audio_s=3.0, utterances=1),
]  # fmt: skip


def command(*arguments: str | bytes, encoding: str = "ascii", **options: object) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    return subprocess.run(
        [sys.executable, "-m", "xlsr_live.client.cli", *arguments],
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
        **options,  # type: ignore[call-overload]
    )


def printed(form: str, encoding: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What a format writes to a standard output of this encoding."""
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
def test_machine_formats_are_utf8_and_text_replaces_what_is_missing(
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
def strange(tmp_path: Path) -> Path:
    """A recording whose name is not UTF-8."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.flac"))
    try:
        shutil.copy(CLIPS / "george.flac", path)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    return path


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_folder_with_a_name_that_is_not_utf8(strange: Path, encoding: str):
    shutil.copy(CLIPS / "jackson.flac", strange.with_name("größe.flac"))
    for form in ("text", "jsonl", "json"):
        done = command("transcribe", str(strange.parent), "--model", str(DIGITS), "-f", form, encoding=encoding)
        assert (done.returncode, done.stderr) == (0, b"")
        text = done.stdout.decode()
        assert SPOKEN in text
        assert "THREE EIGHT FOUR FIVE FIVE FOUR" in text
        if form == "jsonl":
            names = {json.loads(line)["file"] for line in text.splitlines()}
            assert {Path(name).name for name in names} == {"caf�.flac", "größe.flac"}
            assert all(from_json(line) for line in text.splitlines())


def test_results_of_a_name_that_is_not_utf8_and_offline(strange: Path):
    folder = strange.parent
    done = command("transcribe", str(folder), "--model", str(DIGITS), "-f", "srt", "-o", str(folder / "out"))
    assert (done.returncode, done.stderr) == (0, b"")
    assert [os.fsencode(one.name) for one in (folder / "out").iterdir()] == [b"caf\xe9.srt"]
    done = command("transcribe", str(strange), "--model", str(DIGITS), "-f", "jsonl", "--mode", "offline")
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout.splitlines()[0])["session"] == "caf�.flac"


def test_a_bad_file_with_such_a_name_fails_alone(strange: Path, capsys: pytest.CaptureFixture[str]):
    strange.write_bytes(b"no audio")
    done = command("transcribe", str(strange), str(CLIPS / "george.flac"), "--model", str(DIGITS), "-f", "plain")
    assert done.returncode == 2
    assert SPOKEN in done.stdout.decode()
    assert done.stderr.count(b"\n") == 1
    assert b"not an audio file" in done.stderr


def test_names_of_microphones_are_printed_in_any_encoding(monkeypatch: pytest.MonkeyPatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    found = [Device(0, "Höhrer 語", "ALSA", 1, 16_000, True)]
    monkeypatch.setattr("xlsr_live.client.commands.devices.input_devices", lambda: found)
    assert devices.choose(found, None) is found[0]
    assert run(["devices"]) == 0
    stream.flush()
    assert b"H?hrer ?" in stream.buffer.getvalue()  # type: ignore[attr-defined]


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
    arguments = ["commands", str(path), "--model", str(DIGITS), "--say", "one two"]
    assert run(arguments) == 0
    assert json.loads(capsys.readouterr().out)["slots"] == {"n": ["1", "2"]}
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


def limited(size: int):  # type: ignore[no-untyped-def]
    """In a child process: files may not grow beyond `size` bytes."""

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return limit


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_names_the_file_and_leaves_none(form: str, tmp_path: Path):
    target = tmp_path / "out"
    done = command(
        "transcribe", str(CLIPS / "george.flac"), "--model", str(DIGITS), "-f", form, "-o", str(target),
        preexec_fn=limited(0),
    )  # fmt: skip
    assert done.returncode == 2
    assert f"cannot write {target}: File too large" in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert not target.exists()


def test_captions_on_a_full_disk_leave_no_empty_file(tmp_path: Path):
    targets = [tmp_path / name for name in ("a.vtt", "a.srt", "a.txt", "a.jsonl")]
    captions = [each for target in targets for each in ("--captions", str(target))]
    done = command("transcribe", str(CLIPS / "george.flac"), "--model", str(DIGITS), *captions, preexec_fn=limited(0))
    assert done.returncode == 0
    assert SPOKEN.encode() in done.stdout
    for target in targets:
        assert f"cannot write captions to {target} (File too large)" in done.stderr.decode() or target.suffix == ".txt"
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [["transcribe", str(CLIPS / "george.flac"), "--model", str(DIGITS)], ["devices"]])
def test_standard_output_that_is_full_is_named_once(arguments: list[str]):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "xlsr_live.client.cli", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,
        )
    if arguments == ["devices"] and b"standard output" not in done.stderr:
        pytest.skip("this machine has no microphone to list")
    assert done.returncode == 2
    assert done.stderr == b"xlsr-live: " + done.stderr.removeprefix(b"xlsr-live: ")
    assert b"standard output: No space left on device\n" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_file_that_was_not_written_is_an_error_that_names_it(tmp_path: Path):
    with (
        pytest.raises(XlsrLiveError, match=f"cannot write {tmp_path}/no/out: No such file"),
        written("text", tmp_path / "no" / "out"),
    ):
        pass
