"""The objects that Python programs pass as audio."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pytest
import torch
from xlsr_live.streaming.audio.files import open_input
from xlsr_live.streaming.audio.samples import as_packet
from xlsr_live.streaming.errors import AudioError
from xlsr_live.streaming.protocol.events import Event, SessionEnded
from xlsr_live.streaming.recognizer import Recognizer

SAMPLES = [0.5, -0.25, 0.125]


@pytest.mark.parametrize(
    "audio",
    [np.array(SAMPLES), SAMPLES, tuple(SAMPLES), torch.tensor(SAMPLES), torch.tensor(SAMPLES, dtype=torch.float16)],
    ids=["array", "list", "tuple", "tensor", "half tensor"],
)
def test_every_object_that_converts_to_an_array_is_audio(audio: object):
    packet = as_packet(audio)
    assert isinstance(packet, np.ndarray)
    assert packet.tolist() == SAMPLES
    form, blocks = open_input(audio, 1.0)
    assert form.channels == 1
    assert np.concatenate(list(blocks)).tolist() == [[x] for x in SAMPLES]


@pytest.mark.parametrize(
    ("audio", "words"),
    [
        (None, "not NoneType"),
        (7, "not int"),
        ("talk.wav", "not str"),
        (io.BytesIO(b"12"), "not BytesIO"),
        ([[0.1], [0.2, 0.3]], "this list does not convert"),
        (torch.zeros(3, requires_grad=True), "this Tensor does not convert"),
        (torch.zeros(3, dtype=torch.bfloat16), "this Tensor does not convert"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_other_objects_are_refused_in_one_sentence(audio: object, words: str):
    with pytest.raises(AudioError, match=words):
        as_packet(audio)


@pytest.mark.parametrize(
    ("audio", "words"),
    [
        (b"", "empty"),
        (b"\0\1" * 800, "not an audio file"),
        (io.BytesIO(b"no audio"), "not an audio file"),
        (None, "not NoneType"),
        ([1, 2, 3], "not int64"),
        (["a"], "arrays must hold float samples"),
        (torch.zeros(16_000, dtype=torch.int16), "not int16"),
        (torch.zeros(2, 16_000), "first axis is time"),
        (np.zeros(()), "shape"),
        (np.zeros((2, 2, 2)), "shape"),
        (np.full(1_600, np.nan), "not finite"),
        (np.full(1_600, 900.0), "divide 16-bit values"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_recognizer_refuses_other_objects_in_one_sentence(recognizer: Recognizer, audio: object, words: str):
    with pytest.raises(AudioError, match=words):
        recognizer.offline(audio)  # type: ignore[arg-type]


def test_a_session_accepts_lists_and_tensors(recognizer: Recognizer):
    async def scene() -> list[Event]:
        async with recognizer.session() as session:
            await session.send(torch.zeros(160))
            await session.send([0.0] * 320)
            with pytest.raises(AudioError, match="not BytesIO"):
                await session.send(io.BytesIO())
            await session.end()
            return [event async for event in session]

    ended = asyncio.run(scene())[-1]
    assert isinstance(ended, SessionEnded)
    assert ended.audio_s == 0.03
