"""Frame arithmetic, compared with the real convolutions, because a fake with the same formula would hide a bug."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.frames import FIELD, SAMPLE_RATE, STRIDE, frames, geometry, ms, seconds, span
from xlsr_live.streaming.recognizer import Recognizer


def test_the_published_convolutions_give_a_frame_of_25_ms_every_20_ms():
    assert (STRIDE, FIELD, SAMPLE_RATE) == (320, 400, 16_000)
    assert geometry([3], [2]) == (2, 3)
    assert geometry([3, 3], [2, 2]) == (4, 7)
    assert frames(16_000) == 49


@pytest.mark.parametrize(
    "samples", [400, 401, 479, 719, 720, 721, 1_039, 1_040, 7_999, 8_000, 15_999, 16_000, 16_079, 16_080, 33_333]
)
def test_the_real_convolutions_give_the_computed_number_of_frames(recognizer: Recognizer, samples: int):
    with torch.inference_mode():
        features = recognizer.encoder._model.wav2vec2.feature_extractor(torch.zeros(1, samples))
    assert features.shape[-1] == frames(samples)


def test_a_real_frame_depends_on_exactly_its_own_samples(recognizer: Recognizer):
    """The features of frame `i` depend on samples 320 i to 320 i + 399 and on no others."""
    cnn = recognizer.encoder._model.wav2vec2.feature_extractor
    audio = torch.randn(1, 4_000, generator=torch.Generator().manual_seed(0))

    def changed(sample: int) -> list[int]:
        other = audio.clone()
        other[0, sample] += 3.0
        with torch.inference_mode():
            return (cnn(audio) != cnn(other)).any(1)[0].nonzero()[:, 0].tolist()

    assert changed(5 * STRIDE) == [4, 5]
    assert changed(5 * STRIDE - 1) == [4]
    assert changed(5 * STRIDE + FIELD - 1) == [5, 6]
    assert changed(5 * STRIDE + FIELD) == [6]


@given(st.integers(0, 10**9))
@settings(deadline=None)
def test_span_is_the_smallest_number_of_samples_with_that_many_frames(count: int):
    assert frames(span(count)) == count
    if count:
        assert frames(span(count) - 1) == count - 1


@given(st.integers(0, 10**9))
@settings(deadline=None)
def test_one_more_stride_gives_one_more_frame(samples: int):
    assert frames(samples + STRIDE) - frames(samples) == (1 if samples + STRIDE >= FIELD else 0)


def test_milliseconds_and_seconds():
    assert [ms(0), ms(1), ms(30), ms(1_000)] == [0, 16, 480, 16_000]
    assert [seconds(0), seconds(7), seconds(9), seconds(16_000 * 3_600 * 24)] == [0.0, 0.0, 0.001, 86_400.0]
