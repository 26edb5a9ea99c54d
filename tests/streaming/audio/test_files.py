"""Audio files: complete, damaged, truncated, through pipes and in memory."""

from __future__ import annotations

import io
import os
import struct
import threading
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
def test_an_unreadable_file_is_one_line(tmp_path: Path, content: bytes | None, words: str):
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
def test_audio_without_a_frame_is_refused(tmp_path: Path, samples: int, rate: int, channels: int, words: str):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(samples, channels), rate)
    with pytest.raises(AudioError, match=words):
        open_audio(path)


def test_the_shortest_audio_with_a_frame_is_accepted(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", tone(400), 16_000)
    assert len(np.concatenate(list(open_audio(tmp_path / "a.wav").blocks()))) == 400


def test_samples_that_are_not_finite_are_refused_with_their_position(tmp_path: Path):
    samples = tone(16_000).astype(np.float32)
    samples[9_000] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    blocks = open_audio(tmp_path / "a.wav").blocks(0.25)
    assert len([next(blocks), next(blocks)]) == 2
    with pytest.raises(AudioError, match="not finite"):
        next(blocks)


def wav(
    count: int = 16_000,
    *,
    subtype: str = "PCM_16",
    riff: int | None = None,
    data: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A file whose header gives these sizes, with other chunks before and after the samples."""
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(count), 16_000, subtype=subtype, format="WAV")
    content = bytearray(buffer.getvalue())
    at = content.index(b"data")
    content[at:at] = before
    at += len(before)
    content += after
    if riff is not None:
        content[4:8] = struct.pack("<I", riff)
    if data is not None:
        content[at + 4 : at + 8] = struct.pack("<I", data)
    return bytes(content)


LIST = b"LIST" + struct.pack("<I", 4) + b"INFO"


@pytest.mark.parametrize("riff", [None, 0, 36, 0xFFFFFFFF])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "ALAW"])
@pytest.mark.parametrize("before", [b"", LIST])
def test_a_header_that_declares_no_samples_does_not_hide_them(tmp_path: Path, riff, subtype: str, before: bytes):
    path = tmp_path / "killed.wav"
    path.write_bytes(wav(subtype=subtype, riff=riff, data=0, before=before))
    good = np.concatenate(list(open_audio(wav(subtype=subtype)).blocks()))
    file = open_audio(path)
    assert file.seconds == 1.0
    assert np.array_equal(np.concatenate(list(file.blocks())), good)


@pytest.mark.parametrize("sizes", [{"riff": 0}, {"riff": 36}, {"data": 0xFFFFFFFF}, {"data": 0x7FFFFFFF}])
def test_other_wrong_sizes_do_not_hide_samples(sizes: dict[str, int]):
    assert open_audio(wav(**sizes)).seconds == 1.0


@pytest.mark.parametrize("after", [b"", LIST])
def test_a_file_without_samples_is_refused(after: bytes):
    with pytest.raises(AudioError, match="has no audio"):
        open_audio(wav(0, data=0, after=after))


def without_length(form: str, count: int = 16_000, size: int = 0) -> bytes:
    """A file as it comes out of a pipe, or of a recorder that is killed: its header does not give the length."""
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(count), 16_000, format=form, subtype="PCM_16")
    content = bytearray(buffer.getvalue())
    match form:
        case "FLAC":  # 36 bits of STREAMINFO
            content[21] &= 0xF0
            content[22:26] = bytes(4)
        case "AU":
            content[8:12] = struct.pack(">i", size)
        case "CAF":
            at = content.index(b"data")
            content[at + 4 : at + 12] = struct.pack(">q", size)
    return bytes(content)


@pytest.mark.parametrize("how", ["path", "bytes", "pipe"])
@pytest.mark.parametrize(
    ("form", "size"), [("FLAC", 0), ("AU", 0), ("AU", -1), ("CAF", 0), ("CAF", -1), ("CAF", 1 << 40)]
)
def test_a_file_of_unknown_length_is_read_to_its_end(tmp_path: Path, form: str, size: int, how: str):
    content, path = without_length(form, size=size), tmp_path / "a"
    good = (tone(16_000) * 32_767).round().astype(np.float32) / 32_768
    if how == "path":
        path.write_bytes(content)
    if how == "pipe":
        os.mkfifo(path)
        threading.Thread(target=path.write_bytes, args=(content,)).start()
    file = open_audio(content if how == "bytes" else path)
    assert file.seconds == 1.0
    samples = np.concatenate(list(file.blocks(0.03)))
    assert samples == pytest.approx(good, abs=1e-4)
    assert len(samples) == 16_000


@pytest.mark.parametrize(("form", "size"), [("AU", 0), ("AU", -1), ("CAF", 0), ("CAF", -1)])
def test_a_file_of_unknown_length_without_samples_holds_none(form: str, size: int):
    with pytest.raises(AudioError, match="has no audio"):
        open_audio(without_length(form, 0, size))


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_flac_file_of_unknown_length_that_is_cut_is_damaged_where_it_is(share: float):
    content = without_length("FLAC", 160_000)
    file = open_audio(content[: round(share * len(content))])
    read: list[int] = []
    with pytest.raises(AudioError, match="the file is damaged"):
        read.extend(len(block) for block in file.blocks())
    assert 0.4 * share < sum(read) / 160_000 < share + 0.1


def test_an_mp3_file_is_the_same_in_any_blocks():
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(3).uniform(-0.3, 0.3, 48_000), 16_000, format="MP3")
    whole = np.concatenate(list(open_audio(buffer.getvalue()).blocks(10)))
    assert np.array_equal(np.concatenate(list(open_audio(buffer.getvalue()).blocks(0.05))), whole)


def test_bytes_and_file_objects_are_read_as_files(tmp_path: Path):
    content = wav()
    assert open_audio(content).seconds == open_audio(io.BytesIO(content)).seconds == 1.0
    (tmp_path / "a.wav").write_bytes(content)
    with (tmp_path / "a.wav").open("rb") as file:
        assert open_audio(file).seconds == 1.0


def test_a_pipe_is_read_to_its_end(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(wav()))
    writer.start()
    assert len(np.concatenate(list(open_audio(tmp_path / "pipe").blocks()))) == 16_000
    writer.join()


def test_16_bit_values_in_a_float_file_are_refused(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", tone(16_000) * 32_767, 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav: samples reach"):
        next(open_audio(tmp_path / "a.wav").blocks())


def test_libmpg123_writes_nothing_to_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    soundfile.write(tmp_path / "a.mp3", tone(32_000), 16_000)
    content = (tmp_path / "a.mp3").read_bytes()
    comment = b"COMM" + struct.pack(">IH", 2, 0) + b"\0e"  # too short: libmpg123 comments on it
    tag = b"ID3\3\0\0" + bytes([0, 0, 0, len(comment)]) + comment
    (tmp_path / "a.mp3").write_bytes(tag + content[:2_000] + b"\xff" * 999 + content[2_000:])
    assert sum(map(len, open_audio(tmp_path / "a.mp3").blocks())) > 16_000
    assert capfd.readouterr().err == ""
