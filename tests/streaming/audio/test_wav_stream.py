"""WAV headers in a stream that arrives in pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from xlsr_live.streaming.audio.wav_stream import LONGEST_HEADER, WavStream
from xlsr_live.streaming.config import AudioFormat
from xlsr_live.streaming.errors import AudioError

from tests.support.native_reference import Samples, as_file
from tests.support.wire import packets


def header(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(name + len(data).to_bytes(4, "little") + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF\xff\xff\xff\xffWAVE" + body


PCM = b"\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0"


@pytest.mark.parametrize("size", [1, 7, 1_000, 1 << 20])
@pytest.mark.parametrize(
    ("stream", "form", "samples"),
    [
        (header((b"fmt ", PCM), (b"LIST", b"odd"), (b"data", b"abcd"), (b"tags", b"efgh")), 8_000, b"abcd"),
        (header((b"fmt ", PCM)) + b"data\xff\xff\xff\xffabcdef", 8_000, b"abcdef"),
        (header((b"fmt ", PCM), (b"LIST", b"#" * 200_001), (b"data", b"abcd")), 8_000, b"abcd"),
        (header((b"LIST", bytes(200_000)), (b"fmt ", PCM), (b"data", b"abcd")), 8_000, b"abcd"),
        (header((b"fmt ", PCM)) + b"LIST\3\0\0\0odd" + b"data\4\0\0\0abcd", 8_000, b"abcd"),  # without padding
        (b"RF64" + header((b"ds64", bytes(28)), (b"fmt ", PCM))[4:] + b"data\xff\xff\xff\xffabcd", 8_000, b"abcd"),
        (b"RIFF is no header", None, b"RIFF is no header"),
        (b"RI", None, b""),  # which these bytes could have started
        (bytes(100), None, bytes(100)),
    ],
)
def test_wav_in_pieces(stream: bytes, form: int | None, samples: bytes, size: int):
    wav = WavStream()
    assert b"".join(wav.receive(piece) for piece in packets(stream, size)) == samples
    assert wav.format == (form and AudioFormat(sample_rate=form))


@pytest.mark.parametrize(
    ("form", "options", "encoding"),
    [("WAV", {"subtype": "FLOAT"}, "pcm_f32le"), ("WAV", {"subtype": "ULAW"}, "mulaw"), ("WAVEX", {}, "pcm_s16le")],
)
def test_kinds_of_wav(brief: Callable[[str], Samples], form: str, options: dict[str, Any], encoding: str):
    wav = WavStream()
    wav.receive(as_file(brief("george"), form, **options))
    assert wav.format == AudioFormat(encoding=encoding)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "stream",
    [
        header((b"data", b"abcd")),
        header((b"fmt ", PCM[:8]), (b"data", b"")),
        header((b"fmt ", PCM[:-2] + b"\x18\0")),
        header((b"fmt ", bytes(LONGEST_HEADER + 2))),
    ],
)
def test_damaged_and_foreign_wav_is_an_error(stream: bytes):
    with pytest.raises(AudioError):
        WavStream().receive(stream)
