"""Client audio to 16 kHz mono: against libsndfile's tables and soxr's whole-array resampling."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.audio.decoder import RESAMPLER_DELAY, AudioDecoder
from xlsr_live.streaming.config import AudioFormat
from xlsr_live.streaming.errors import AudioError

RATES = [8_000, 11_025, 12_345, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000]


def decoder(**settings: object) -> AudioDecoder:
    return AudioDecoder(AudioFormat(**settings))  # type: ignore[arg-type]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).uniform(-0.9, 0.9, shape)).astype(np.float32)


def whole(audio: AudioDecoder, data: bytes | np.ndarray) -> np.ndarray:
    return np.concatenate((audio.receive(data), audio.flush()))


def split(audio: AudioDecoder, data: bytes | np.ndarray, sizes: list[int]) -> np.ndarray:
    out: list[np.ndarray] = []
    at = 0
    for size in [*sizes, len(data)]:
        packet = data[at : at + size]
        most = audio.most(packet)
        out.append(audio.receive(packet))
        assert out[-1].dtype == np.float32
        assert len(out[-1]) <= most + RESAMPLER_DELAY
        at += size
    return np.concatenate((*out, audio.flush()))


sizes = st.lists(st.sampled_from([0, 1, 2, 3, 5, 7, 160, 1_023, 4_999]), max_size=60)


@given(st.sampled_from(["pcm_s16le", "pcm_f32le", "mulaw", "alaw"]), st.sampled_from(RATES), st.integers(1, 9), sizes)
@settings(max_examples=80, deadline=None)
def test_bytes_in_any_packets_give_the_same_samples(encoding: str, rate: int, channels: int, sizes: list[int]):
    if encoding == "pcm_f32le":
        data = noise(3_000 * channels).tobytes() + b"\1\2"
    else:
        data = np.random.default_rng(1).integers(0, 256, 6_000 * channels + 1, np.uint8).tobytes()
    form = {"encoding": encoding, "sample_rate": rate, "channels": channels}
    assert np.array_equal(split(decoder(**form), data, sizes), whole(decoder(**form), data))


@given(st.sampled_from(RATES), st.sampled_from([None, 1, 2, 9]), st.booleans(), sizes)
@settings(max_examples=80, deadline=None)
def test_arrays_in_any_packets_give_the_same_samples(rate: int, channels: int | None, fortran: bool, sizes: list[int]):
    data = noise(20_000) if channels is None else noise(20_000, channels)
    if fortran:
        data = np.asfortranarray(data)
    form = {"sample_rate": rate, "channels": channels or 1}
    assert np.array_equal(split(decoder(**form), data, sizes), whole(decoder(**form), data))


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate != 16_000])
def test_resampling_in_packets_equals_resampling_the_whole(rate: int):
    samples = noise(rate)
    ours = split(decoder(sample_rate=rate), samples, [100, 1, 4_000, 7, 7, 333])
    expected = soxr.resample(samples, rate, 16_000, quality="HQ")
    assert len(ours) == len(expected) == 16_000
    assert np.allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_resampling_keeps_the_frequency_and_time_of_a_tone(rate: int):
    def tone(at: int) -> np.ndarray:
        return (0.5 * np.sin(2 * np.pi * 440 * np.arange(at) / at)).astype(np.float32)

    ours = split(decoder(sample_rate=rate), tone(rate), [999] * 20)
    assert np.abs(ours - tone(16_000))[400:-400].max() < 1e-3


@pytest.mark.parametrize(("encoding", "subtype"), [("mulaw", "ULAW"), ("alaw", "ALAW")])
def test_g711_decodes_like_libsndfile(encoding: str, subtype: str):
    codes = bytes(range(256))
    expected, _ = soundfile.read(
        io.BytesIO(codes), channels=1, samplerate=16_000, format="RAW", subtype=subtype, dtype="float32"
    )
    assert np.array_equal(decoder(encoding=encoding).receive(codes), expected)


def test_linear_samples_are_exact_and_channels_are_averaged():
    pcm = np.array([-32_768, -1, 0, 1, 32_767], "<i2")
    assert decoder().receive(pcm.tobytes()).tolist() == [-1.0, -1 / 32_768, 0.0, 1 / 32_768, 32_767 / 32_768]
    stereo = np.array([[1.0, 0.5], [-0.25, 0.25]], np.float32)
    assert decoder(channels=2, encoding="pcm_f32le").receive(stereo.tobytes()).tolist() == [0.75, 0.0]
    assert decoder(channels=2).receive(stereo).tolist() == [0.75, 0.0]
    assert decoder().receive(np.array([[0.5], [0.25]])).tolist() == [0.5, 0.25]


def test_samples_beyond_full_scale_are_clipped():
    assert decoder().receive(np.array([3.0, -2.0, 0.5])).tolist() == [1.0, -1.0, 0.5]


def test_bytes_of_an_incomplete_sample_are_held_back():
    audio = decoder(channels=3)
    assert len(audio.receive(b"\0" * 11)) == 1
    assert audio.held_bytes == 5
    assert len(audio.receive(bytearray(1))) == 1
    assert audio.held_bytes == 0
    assert len(audio.receive(memoryview(b"\0" * 6))) == 1


def test_a_flush_returns_all_samples_and_resets_the_resampler():
    audio = decoder(sample_rate=48_000)
    first = whole(audio, noise(4_800))
    second = whole(audio, noise(4_800))
    assert len(first) == 1_600
    assert np.array_equal(first, second)
    assert len(audio.flush()) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_packet_that_is_not_finite_is_refused_and_changes_nothing(bad, channels, as_bytes, rate):
    form = {"encoding": "pcm_f32le", "channels": channels, "sample_rate": rate}
    audio, other = decoder(**form), decoder(**form)
    good, spoilt = noise(999, channels), noise(50, channels)
    spoilt[-1, -1] = bad
    assert np.array_equal(audio.receive(good.tobytes()[:-3]), other.receive(good.tobytes()[:-3]))
    packet = good.tobytes()[-3:] + spoilt.tobytes() if as_bytes else spoilt
    with pytest.raises(AudioError, match="not finite"):
        audio.receive(packet)
    with pytest.raises(AudioError, match="not finite"):
        audio.check(packet)
    assert np.array_equal(whole(audio, good.tobytes()[-3:]), whole(other, good.tobytes()[-3:]))


@pytest.mark.parametrize(
    ("channels", "array"), [(2, np.zeros(4)), (1, np.zeros((4, 2))), (2, np.zeros((2, 2, 2))), (1, np.zeros(()))]
)
def test_an_array_of_the_wrong_shape_is_refused(channels: int, array: np.ndarray):
    with pytest.raises(AudioError, match="channel"):
        decoder(channels=channels).receive(array)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint8])
def test_integer_arrays_are_refused_as_samples(kind: type):
    with pytest.raises(AudioError, match="float"):
        decoder().receive(np.array([100, 20, 3], kind))


def integers(samples: np.ndarray) -> bytes:
    return (samples * 32_767).astype("<i2").tobytes()


@pytest.mark.parametrize("size", [1, 3, 320, 100_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("quantized", [False, True])
def test_floats_declared_as_integers_are_detected_for_any_packets(size: int, channels: int, quantized: bool):
    samples = np.concatenate((np.zeros((50, channels), np.float32), noise(2_000, channels)))
    if quantized:
        samples = (np.round(samples * 32_768) / 32_768).astype(np.float32)
    data, audio = samples.tobytes(), decoder(channels=channels)
    packets = (data[at : at + size] for at in range(0, len(data), size))
    refused = next(packet for packet in packets if raises(audio.check, packet) or raises(audio.receive, packet))
    for refuse in (audio.check, audio.receive):
        with pytest.raises(AudioError, match="look like 32-bit floats"):
            refuse(refused)


def raises(take: Callable[[bytes], object], packet: bytes) -> bool:
    try:
        take(packet)
    except AudioError:
        return True
    return False


@pytest.mark.parametrize("level", [1.0, 0.5, 0.1, 1e-3])
def test_integers_are_never_mistaken_for_floats(level: float):
    rng = np.random.default_rng(3)
    seconds = np.arange(32_000) / 16_000
    signals = [
        rng.uniform(-1, 1, 32_000),
        np.sin(2 * np.pi * 440 * seconds),
        np.sign(np.sin(2 * np.pi * 100 * seconds)),
        np.full(32_000, 0.45),
        np.cumsum(rng.standard_normal(32_000)) / 400,
    ]
    for signal in signals:
        decoder().receive(integers((level * signal).clip(-1, 1)))


@pytest.mark.parametrize("as_bytes", [False, True])
def test_16_bit_values_in_floats_are_refused(as_bytes: bool):
    audio = decoder(encoding="pcm_f32le")
    values = (noise(1_600) * 20_000).astype(np.float32)
    for refuse in (audio.check, audio.receive):
        with pytest.raises(AudioError, match="divide 16-bit values by 32768"):
            refuse(values.tobytes() if as_bytes else values)
    assert len(audio.receive(noise(100))) == 100


def test_16_bit_integers_declared_as_floats_are_refused():
    speech = np.sin(np.arange(1_600) / 20) * np.linspace(0, 1, 1_600)
    with pytest.raises(AudioError):
        decoder(encoding="pcm_f32le").receive(integers(speech))
