"""Hostile containers: many channels, formats that change, a thousandfold expansion."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from xlsr_live.server.dialects import containers
from xlsr_live.server.dialects.containers import MOST_BLOCKS, ContainerDecoder, open_media
from xlsr_live.streaming.config import AudioFormat
from xlsr_live.streaming.errors import AudioError

from tests.support.fuzz_inputs import contained

pytest.importorskip("av", reason="PyAV, which decodes containers, is not installed")

NOISE = np.random.default_rng(1).integers(-9_000, 9_000, 9_600).astype(np.int16)


async def decoded(container: str, *packets: bytes) -> tuple[AudioFormat | None, list[NDArray[np.float32]]]:
    decoder = ContainerDecoder(container)
    try:
        return decoder.format, [block for data in (*packets, b"") async for block in decoder.decode(data)]
    finally:
        decoder.close()


@pytest.mark.parametrize(
    ("container", "codec", "layout", "channels"),
    [
        ("ogg", "flac", "stereo", 2),
        ("ogg", "flac", "7.1", 8),
        ("matroska", "flac", "octagonal", 8),
        ("matroska", "pcm_s16le", "hexadecagonal", 16),
    ],
)
def test_any_number_of_channels_is_decoded(container: str, codec: str, layout: str, channels: int, tmp_path: Path):
    file = tmp_path / "file"
    file.write_bytes(data := contained(container, codec, layout, NOISE))
    expected = np.repeat(NOISE[:, None], channels, axis=1) / np.float32(32_768)
    _, live = asyncio.run(decoded(container, data[:5_000], data[5_000:]))
    assert np.array_equal(np.concatenate(live), expected)
    form, blocks = open_media(file)
    assert (form.sample_rate, form.channels) == (16_000, channels)
    assert np.array_equal(np.concatenate([*blocks]), expected)


def test_a_format_that_changes_is_an_error():
    data = contained("ogg", "flac", "stereo", NOISE) + contained("ogg", "flac", "mono", NOISE)
    with pytest.raises(AudioError, match="damaged"):
        asyncio.run(decoded("ogg", data))


def test_bytes_without_audio_are_limited():
    head = contained("matroska", "pcm_s16le", "mono", NOISE)[:300]
    with pytest.raises(AudioError, match="no audio"):
        asyncio.run(decoded("matroska", head + b"\xec\x01\0\0\0\x7f\xff\xff\xff", *[bytes(1 << 20)] * 10))


def test_the_decoder_waits_until_its_blocks_are_consumed(monkeypatch: pytest.MonkeyPatch):
    """A kilobyte may decode to minutes of silence."""
    made = 0

    def unfolding(*_: Any) -> Iterator[tuple[AudioFormat, NDArray[np.float32]]]:
        nonlocal made
        for made in range(1, 2_001):  # noqa: B007
            yield AudioFormat(), np.zeros((8, 1), np.float32)

    async def scene() -> tuple[int, int]:
        decoder, taken, most = ContainerDecoder("ogg"), 0, 0
        async for _ in decoder.decode(b"x"):
            await asyncio.sleep(0)
            most, taken = max(most, made - taken), taken + 1
        return most, taken

    monkeypatch.setattr(containers, "decode", unfolding)
    most, taken = asyncio.run(scene())
    assert taken == 2_000
    assert most <= MOST_BLOCKS + 2  # one held by this test, one by the thread


def test_a_client_that_leaves_ends_the_thread(monkeypatch: pytest.MonkeyPatch):
    data = contained("ogg", "flac", "mono", np.zeros(1_600_000, np.int16))

    async def scene() -> None:
        decoder = ContainerDecoder("ogg")
        async for _ in decoder.decode(data):
            break  # and the thread waits for room
        decoder.close()
        await asyncio.to_thread(decoder._thread.join, 20)
        assert not decoder._thread.is_alive()

    asyncio.run(scene())
