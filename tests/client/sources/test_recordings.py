"""Files that libsndfile cannot read, and the recordings of a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from xlsr_live.client.cli import run
from xlsr_live.client.sources.recordings import Recording, find_recordings, read_recording
from xlsr_live.streaming.audio import libav
from xlsr_live.streaming.audio.files import open_audio
from xlsr_live.streaming.errors import AudioError

from tests.support.fuzz_inputs import contained

# The name of each kind of file, its container in libav and the codec.
KINDS = {
    "talk.m4a": ("ipod", "aac"),
    "talk.mp4": ("mp4", "aac"),
    "talk.webm": ("webm", "libopus"),
    "talk.mkv": ("matroska", "flac"),
    "talk.aac": ("adts", "aac"),
    "talk.mov": ("mov", "pcm_s16le"),
}
SAMPLES = np.random.default_rng(5).integers(-9_000, 9_000, 16_000).astype(np.int16)


def made(name: str, folder: Path, samples: NDArray[np.int16] = SAMPLES) -> Path:
    pytest.importorskip("av", reason="PyAV is not installed")
    container, codec = KINDS[name]
    (folder / name).write_bytes(contained(container, codec, "mono", samples))
    return folder / name


@pytest.mark.parametrize("name", KINDS)
def test_media_files_are_read(name: str, tmp_path: Path):
    file = open_audio(made(name, tmp_path))
    samples = np.concatenate(list(file.blocks()))
    assert file.seconds == len(samples) / file.sample_rate == pytest.approx(1.0, abs=0.15)
    if name in ("talk.mkv", "talk.mov"):
        assert np.array_equal(samples[:, 0], SAMPLES / np.float32(32_768))


@pytest.mark.parametrize("name", KINDS)
def test_without_pyav_the_extra_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = made(name, tmp_path)
    monkeypatch.setattr(libav, "available", lambda: False)
    for command in ("transcribe", "stream"):
        assert run([command, str(path)]) == 2
        assert f"{path}: this format needs PyAV: pip install 'xlsr-live[containers]'" in capsys.readouterr().err


def test_a_damaged_media_file_is_an_error(tmp_path: Path):
    path = made("talk.m4a", tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(AudioError, match=f"{path}: "):
        open_audio(path)


def test_a_broken_wav_file_keeps_the_better_message(tmp_path: Path):
    path = tmp_path / "talk.wav"
    path.write_bytes(b"RIFF\x24\0\0\0WAVEfmt " + bytes(40))
    with pytest.raises(AudioError, match="not an audio file, or damaged"):
        open_audio(path)


@pytest.mark.parametrize("how", ["transcribe", "offline"])
def test_the_text_of_a_film(
    how: str, tmp_path: Path, clip: Callable[[str], NDArray[np.int16]], capsys: pytest.CaptureFixture[str]
):
    from tests.support.paths import DIGITS

    path = made("talk.mkv", tmp_path, clip("jackson"))
    mode = ["--mode", "offline"] if how == "offline" else []
    assert run(["transcribe", str(path), "--model", str(DIGITS), *mode]) == 0
    assert capsys.readouterr().out == "Three eight four five five four\n"


def test_a_folder_lists_its_audio_files(tmp_path: Path):
    for name in ("b.WAV", "a.flac", "c.m4a", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_recordings(tmp_path)] == ["a.flac", "b.WAV", "c.m4a"]
    assert list(find_recordings(tmp_path / "notes.txt")) == [tmp_path / "notes.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioError, match="no recordings in this folder"):
        list(find_recordings(tmp_path / "empty"))


def test_a_file_is_not_read_ahead(tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    assert read_recording(tmp_path / "a.wav") == Recording(tmp_path / "a.wav")
