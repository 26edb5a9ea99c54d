"""Audio on a pipe: with a header, without one, and with bytes that only look like one."""

from __future__ import annotations

import asyncio
import io
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from xlsr_live.client.cli import run
from xlsr_live.client.sources.pipes import is_mp3, open_pipe, read_pipe
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.streaming.audio import libav
from xlsr_live.streaming.config import AudioFormat
from xlsr_live.streaming.errors import AudioError
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.paths import CLIPS, DIGITS

Clip = Callable[[str], NDArray[np.int16]]
RAW = AudioFormat(encoding="mulaw", sample_rate=8_000)
SAMPLES = np.random.default_rng(3).integers(-9_000, 9_000, 20_000).astype(np.int16)


def coded(form: str, subtype: str | None = None, rate: int = 16_000, samples: NDArray[np.int16] = SAMPLES) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=form, subtype=subtype)
    return stream.getvalue()


def received(data: bytes, size: int = 1 << 16) -> tuple[AudioFormat, NDArray[np.float32] | bytes]:
    """The audio that a pipe delivers for these bytes, written in pieces."""
    reader, writer = os.pipe()

    def write() -> None:
        with os.fdopen(writer, "wb", buffering=0) as sink:
            for at in range(0, len(data), size):
                sink.write(data[at : at + size])

    async def read() -> tuple[AudioFormat, NDArray[np.float32] | bytes]:
        audio, blocks = await open_pipe(reader, RAW)
        parts = [block async for block in blocks]
        if parts and isinstance(parts[0], np.ndarray):
            return audio, np.concatenate(parts)[:, 0]
        return audio, b"".join(parts)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        return asyncio.run(asyncio.wait_for(read(), 30))
    finally:
        thread.join()
        os.close(reader)


@pytest.fixture(params=["with PyAV", "without PyAV"])
def pyav(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "with PyAV":
        pytest.importorskip("av", reason="PyAV is not installed")
    else:
        monkeypatch.setattr(libav, "available", lambda: False)


@pytest.mark.parametrize("size", [7, 1 << 16])
@pytest.mark.parametrize("data", [b"\1\2\3", SAMPLES.tobytes(), b"RIFF" + bytes(100), b"\xff\xfb" + bytes(3_000)])
def test_bytes_without_a_header_are_raw_audio(data: bytes, size: int):
    assert received(data, size) == (RAW, data)


def test_an_empty_pipe_has_the_declared_format():
    assert received(b"") == (RAW, b"")


@pytest.mark.parametrize("size", [7, 1 << 16])
@pytest.mark.parametrize(("subtype", "encoding"), [("PCM_16", "pcm_s16le"), ("FLOAT", "pcm_f32le"), ("ULAW", "mulaw")])
def test_a_wav_header_gives_the_format(subtype: str, encoding: str, size: int):
    audio, data = received(coded("WAV", subtype, 22_050), size)
    assert audio == AudioFormat(encoding=encoding, sample_rate=22_050)  # type: ignore[arg-type]
    if subtype == "PCM_16":
        assert data == SAMPLES.tobytes()


@pytest.mark.usefixtures("pyav")
@pytest.mark.parametrize(
    ("form", "subtype"),
    [("FLAC", "PCM_16"), ("WAV", "PCM_24"), ("AIFF", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)],
)
def test_coded_streams_are_decoded(form: str, subtype: str | None):
    audio, samples = received(coded(form, subtype))
    assert isinstance(samples, np.ndarray)
    # A decoder may use its own rate (Opus: 48 kHz), and add or drop a frame of MP3.
    assert len(samples) / audio.sample_rate == pytest.approx(len(SAMPLES) / 16_000, abs=0.15)
    if form in ("FLAC", "WAV", "AIFF"):
        assert np.array_equal(samples, SAMPLES / np.float32(32_768))


@pytest.mark.usefixtures("pyav")
@pytest.mark.parametrize(
    ("form", "subtype"),
    [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None), ("AIFF", "PCM_16"), ("WAV", "PCM_24")],
)
def test_an_endless_stream_is_decoded_as_it_arrives(form: str, subtype: str | None):
    data = coded(form, subtype, samples=np.tile(SAMPLES, 8))
    if form == "FLAC":  # an encoder cannot give the length of such a stream
        data = data[:21] + bytes([data[21] & 0xF0]) + bytes(4) + data[26:]
    part = len(data) * 7 // 10
    reader, writer = os.pipe()
    arrived, early = threading.Event(), []

    def write() -> None:
        with os.fdopen(writer, "wb", buffering=0) as sink:
            sink.write(data[:part])
            early.append(arrived.wait(60))  # for the first samples, before the rest comes
            sink.write(data[part:])

    thread = threading.Thread(target=write)
    thread.start()
    total = 0
    for audio, block in read_pipe(reader, RAW):
        total += len(block) / audio.sample_rate
        if total > 2:
            arrived.set()
    thread.join()
    os.close(reader)
    assert early == [True]
    assert total == pytest.approx(10.0, abs=0.15)


@pytest.mark.usefixtures("pyav")
@pytest.mark.parametrize(("form", "size"), [("AU", 0), ("AU", -1), ("CAF", 0), ("CAF", -1)])
def test_a_stream_whose_header_does_not_give_its_length(form: str, size: int):
    data = bytearray(coded(form, "PCM_16"))
    if form == "AU":
        data[8:12] = struct.pack(">i", size)
    else:
        at = data.index(b"data")
        data[at + 4 : at + 12] = struct.pack(">q", size)
    audio, samples = received(bytes(data))
    assert audio.sample_rate == 16_000
    assert np.array_equal(samples, SAMPLES / np.float32(32_768))


@pytest.mark.usefixtures("pyav")
@pytest.mark.parametrize("part", [44, 1 << 16])
def test_a_wav_stream_of_24_bits_that_declares_no_samples(part: int):
    """Some recorders write the header by itself, so that no sample arrives with it."""
    data = coded("WAV", "PCM_24")
    at = data.index(b"data") + 4
    data = data[:at] + bytes(4) + data[at + 4 :]
    audio, samples = received(data, part)
    assert audio.sample_rate == 16_000
    assert np.array_equal(samples, SAMPLES / np.float32(32_768))


@pytest.mark.usefixtures("pyav")
def test_a_damaged_stream_is_an_error():
    with pytest.raises(AudioError, match=r"^standard input: "):
        received(b"fLaC" + os.urandom(5_000))


def test_one_header_of_mp3_is_no_mp3():
    data = coded("MP3")
    assert is_mp3(data[data.index(b"\xff") :])
    assert not is_mp3(data[:4] + bytes(2_000))
    assert not is_mp3(SAMPLES.tobytes())


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer) as server:
        yield server


@pytest.mark.parametrize("form", ["WAV", "FLAC"])
def test_a_pipe_gives_the_text_of_the_file(form: str, server: RunningServer, clip: Clip):
    stream = io.BytesIO()
    soundfile.write(stream, clip("jackson"), 16_000, format=form)
    done = subprocess.run(
        [sys.executable, "-m", "xlsr_live.client.cli", "stream", "-", "--url", server.url, "-f", "text"],
        input=stream.getvalue(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, "Three eight four five five four\n", b"")


def fill(fifo: Path, content: bytes) -> threading.Thread:
    os.mkfifo(fifo)
    thread = threading.Thread(target=fifo.write_bytes, args=(content,))
    thread.start()
    return thread


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("command", ["transcribe", "stream", "offline"])
def test_a_named_pipe(command: str, server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    thread = fill(tmp_path / "talk", (CLIPS / "jackson.flac").read_bytes())
    arguments = {
        "transcribe": ["transcribe", "--model", str(DIGITS)],
        "offline": ["transcribe", "--model", str(DIGITS), "--mode", "offline"],
        "stream": ["stream", "--url", server.url],
    }[command]
    assert run([*arguments, str(tmp_path / "talk"), "-f", "text"]) == 0
    thread.join()
    assert capsys.readouterr().out == "Three eight four five five four\n"


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_standard_input_is_a_recording(name: str, tmp_path: Path):
    arguments = ["transcribe", name, "--model", str(DIGITS), "-f", "srt", "-o", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "xlsr_live.client.cli", *arguments],
        input=(CLIPS / "jackson.flac").read_bytes(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert "Three eight four" in (tmp_path / "stdin.srt").read_text()


def test_standard_input_that_is_no_recording_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hello")))
    assert run(["transcribe", "-"]) == 2
    assert "standard input: not an audio file" in capsys.readouterr().err
