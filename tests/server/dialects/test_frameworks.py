"""Voice agent frameworks: their unchanged classes for Deepgram and OpenAI against this server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.native_reference import Samples, at_rate, native_finals, pause
from tests.support.wire import packets


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer) as server:
        yield server


@pytest.fixture(scope="module")
def samples(brief: Callable[[str], Samples]) -> Samples:
    return np.concatenate([brief("george"), pause(1.5), brief("jackson"), pause(1.5)])


async def livekit(stt: Any, samples: Samples, rate: int, count: int) -> list[str]:
    """The final transcripts of a LiveKit plugin."""
    from livekit import agents, rtc

    texts: list[str] = []
    stream = stt.stream()
    for packet in packets(at_rate(samples, rate).tobytes(), rate // 5):
        stream.push_frame(rtc.AudioFrame(packet, rate, 1, len(packet) // 2))
    async for event in stream:
        if event.type == agents.stt.SpeechEventType.FINAL_TRANSCRIPT:
            texts.append(event.alternatives[0].text)
            if len(texts) == count:
                break
    await stream.aclose()
    return texts


def test_livekit_and_deepgram(server: RunningServer, samples: Samples):
    pytest.importorskip("livekit.plugins.deepgram", reason="livekit-plugins-deepgram is not installed")
    import aiohttp
    from livekit.plugins import deepgram

    async def scene() -> list[str]:
        async with aiohttp.ClientSession() as session:
            place = f"http://127.0.0.1:{server.port}/v1/listen"
            stt = deepgram.STT(base_url=place, api_key="any", http_session=session, endpointing_ms=600)
            return await livekit(stt, samples, 16_000, 2)

    assert asyncio.run(scene()) == [final.text for final in native_finals(server, samples.tobytes())]


def test_livekit_and_openai(server: RunningServer, samples: Samples):
    pytest.importorskip("livekit.plugins.openai", reason="livekit-plugins-openai is not installed")
    from livekit.agents import utils
    from livekit.plugins import openai

    async def scene() -> list[str]:
        turns = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 600}
        async with utils.http_context.open():
            place = f"http://127.0.0.1:{server.port}/v1"
            stt = openai.STT(base_url=place, api_key="any", use_realtime=True, turn_detection=turns)
            return await livekit(stt, samples, 24_000, 2)

    wide = at_rate(samples, 24_000).tobytes()
    native = native_finals(server, wide, '{"type":"start","sample_rate":24000}')
    assert asyncio.run(scene()) == [final.text for final in native]


async def pipecat(service: Any, samples: Samples, rate: int, count: int) -> list[str]:
    """The final transcripts of a Pipecat service in a pipeline."""
    from pipecat.frames.frames import EndFrame, Frame, InputAudioRawFrame, TranscriptionFrame
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.runner import PipelineRunner
    from pipecat.pipeline.task import PipelineParams, PipelineTask
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

    texts: list[str] = []

    class Listening(FrameProcessor):
        async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
            await super().process_frame(frame, direction)
            if isinstance(frame, TranscriptionFrame):
                texts.append(frame.text)
                if len(texts) == count:
                    await task.queue_frame(EndFrame())
            await self.push_frame(frame, direction)

    task = PipelineTask(Pipeline([service, Listening()]), params=PipelineParams(audio_in_sample_rate=rate))
    audio = packets(at_rate(samples, rate).tobytes(), rate // 5)
    await task.queue_frames([InputAudioRawFrame(audio=packet, sample_rate=rate, num_channels=1) for packet in audio])
    await PipelineRunner(handle_sigint=False).run(task)
    return texts


def test_pipecat_and_deepgram(server: RunningServer, samples: Samples):
    pytest.importorskip("pipecat.services.deepgram.stt", reason="pipecat-ai is not installed")
    from pipecat.services.deepgram.stt import DeepgramSTTService

    async def scene() -> list[str]:
        service = DeepgramSTTService(api_key="any", base_url=f"ws://127.0.0.1:{server.port}")
        return await pipecat(service, samples, 16_000, 2)

    assert asyncio.run(scene()) == [final.text for final in native_finals(server, samples.tobytes())]


def test_pipecat_and_openai(server: RunningServer, samples: Samples):
    pytest.importorskip("pipecat.services.openai.stt", reason="pipecat-ai is not installed")
    from pipecat.services.openai.stt import OpenAIRealtimeSTTService

    async def scene() -> list[str]:
        place = f"ws://127.0.0.1:{server.port}/v1/realtime"
        turns = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 600}
        service = OpenAIRealtimeSTTService(api_key="any", base_url=place, turn_detection=turns)
        return await pipecat(service, samples, 24_000, 2)

    wide = at_rate(samples, 24_000).tobytes()
    native = native_finals(server, wide, '{"type":"start","sample_rate":24000}')
    assert asyncio.run(scene()) == [final.text for final in native]
