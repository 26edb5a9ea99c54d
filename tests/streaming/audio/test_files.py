from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from xlsr_live.streaming.audio.files import open_audio
from xlsr_live.streaming.errors import AudioError


def tone(count: int, channels: int = 1) -> np.ndarray:
    return np.repeat(np.sin(np.arange(count) / 20)[:, None] * 0.5, channels, axis=1)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_blocks_are_the_file_in_order(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, tone(22_050, 2), 22_050)
    file = open_audio(path)
    assert (file.sample_rate, file.channels, file.seconds) == (22_050, 2, 1.0)
    blocks = list(file.blocks(0.3))
    assert [block.shape for block in blocks] == [(6_615, 2)] * 3 + [(2_205, 2)]
    assert {block.dtype for block in blocks} == {np.dtype(np.float32)}
    whole, _ = soundfile.read(path, dtype="float32", always_2d=True)
    assert np.array_equal(np.concatenate(blocks), whole)
    assert file._file.closed


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"", "empty"),
        (b"This is no audio at all.", "not an audio file"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "not an audio file"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path, content: bytes | None, words: str):
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioError, match=words) as error:
        open_audio(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_directory_is_not_a_file(tmp_path: Path):
    with pytest.raises(AudioError, match="directory"):
        open_audio(tmp_path)


@pytest.mark.parametrize(
    ("samples", "rate", "channels", "words"),
    [
        (0, 16_000, 1, "no audio"),
        (3, 16_000, 1, "0 ms of audio"),
        (399, 16_000, 1, "24 ms of audio; at least 25 ms"),
        (1_199, 48_000, 1, "24 ms of audio; at least 25 ms"),
        (16_000, 4_000, 1, "4000 Hz"),
        (16_000, 192_000, 1, "192000 Hz"),
        (16_000, 16_000, 33, "33 channels"),
    ],
)
def test_what_cannot_be_heard_is_refused(tmp_path: Path, samples: int, rate: int, channels: int, words: str):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(samples, channels), rate)
    with pytest.raises(AudioError, match=words):
        open_audio(path)


def test_the_shortest_audio_that_makes_a_frame_is_taken(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", tone(400), 16_000)
    assert len(np.concatenate(list(open_audio(tmp_path / "a.wav").blocks()))) == 400


def test_samples_that_are_not_finite_are_refused_where_they_come(tmp_path: Path):
    samples = tone(16_000).astype(np.float32)
    samples[9_000] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    blocks = open_audio(tmp_path / "a.wav").blocks(0.25)
    assert len([next(blocks), next(blocks)]) == 2
    with pytest.raises(AudioError, match="not finite"):
        next(blocks)
