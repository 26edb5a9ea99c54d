"""The microphone without a sound system: a stand-in for PortAudio with its answers."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from contextlib import closing, nullcontext
from typing import Any, ClassVar

import numpy as np
import pytest
from xlsr_live.client.cli import run
from xlsr_live.client.sources import devices, microphone
from xlsr_live.client.sources.devices import Device, MicrophoneError, choose
from xlsr_live.client.sources.microphone import Microphone, loudness
from xlsr_live.streaming.recognizer import Recognizer

USB = Device(2, "USB Audio: Rode NT", "ALSA", 2, 44_100, False)
BUILT_IN = Device(0, "HDA Intel: ALC256", "ALSA", 2, 48_000, True)
WEBCAM = Device(5, "USB Camera: Audio", "ALSA", 1, 16_000, False)


class PortAudioError(Exception):
    pass


class FakeStream:
    """Plays its blocks to the callback from a thread, as PortAudio does."""

    blocks: ClassVar[list[bytes]] = []

    def __init__(self, callback: Callable[..., None], **options: Any) -> None:
        self.callback = callback
        self.thread = threading.Thread(target=self.play)
        self.closed = False

    def play(self) -> None:
        for block in self.blocks:
            self.callback(memoryview(block), len(block) // 2, None, None)

    def start(self) -> None:
        self.thread.start()

    def abort(self) -> None:
        if self.thread.is_alive():
            self.thread.join()

    def close(self) -> None:
        self.closed = True


class FakePortAudio:
    PortAudioError = PortAudioError

    def __init__(self, rates: tuple[int, ...] = (16_000,), trouble: Exception | None = None, inputs: int = 1) -> None:
        self.rates = rates
        self.trouble = trouble
        self.inputs = inputs
        self.default = type("default", (), {"device": (0, 1)})

    def query_hostapis(self) -> list[dict[str, Any]]:
        return [{"name": "ALSA"}]

    def query_devices(self) -> list[dict[str, Any]]:
        speaker = {"name": "Speaker", "hostapi": 0, "max_input_channels": 0, "default_samplerate": 48_000.0}
        return [{**speaker, "name": "Mic", "max_input_channels": 2}] * self.inputs + [speaker]

    def check_input_settings(self, *, samplerate: int, **_: Any) -> None:
        if samplerate not in self.rates:
            raise PortAudioError("Invalid sample rate [PaErrorCode -9997]", -9997)

    def RawInputStream(self, **options: Any) -> FakeStream:
        if self.trouble:
            raise self.trouble
        return FakeStream(**options)


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(fake: Any) -> None:
        for module in (devices, microphone):
            monkeypatch.setattr(module, "portaudio", lambda: fake)

    return install


def test_choosing_a_device():
    found = [BUILT_IN, USB, WEBCAM]
    assert choose(found, None) is BUILT_IN
    assert choose([USB, WEBCAM], None) is USB
    assert choose(found, "5") is WEBCAM
    assert choose(found, "rode") is USB
    assert choose(found, "USB Camera: Audio") is WEBCAM
    with pytest.raises(MicrophoneError, match="2 USB Audio: Rode NT, 5 USB Camera"):
        choose(found, "usb")
    with pytest.raises(MicrophoneError, match="xlsr-live devices"):
        choose(found, "7")
    with pytest.raises(MicrophoneError, match="no input device"):
        choose([], None)


def test_the_device_opens_at_16_khz_mono_or_else_in_its_own_format(portaudio: Callable[..., None]):
    portaudio(FakePortAudio())
    with closing(Microphone()) as mic:
        assert (mic.audio.sample_rate, mic.audio.channels) == (16_000, 1)
    portaudio(FakePortAudio(rates=(48_000,)))
    with closing(Microphone()) as mic:
        assert (mic.audio.sample_rate, mic.audio.channels) == (48_000, 1)


@pytest.mark.parametrize(
    ("fake", "words"),
    [
        (FakePortAudio(inputs=0), "no input device"),
        (FakePortAudio(trouble=PortAudioError("Error opening: Device unavailable [PaErrorCode -9985]", -9985)), "busy"),
        (FakePortAudio(trouble=PortAudioError("Error opening: Permission denied", -9999)), "no permission"),
        (FakePortAudio(trouble=PortAudioError("Error opening: Internal error [PaErrorCode -9986]", -9986)), "Internal"),
    ],
)
def test_a_microphone_error_is_one_line(
    fake: FakePortAudio, words: str, portaudio: Callable[..., None], capsys: pytest.CaptureFixture[str]
):
    portaudio(fake)
    assert run(["mic"]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (OSError("PortAudio library not found"), "apt install libportaudio2"),
        (ModuleNotFoundError("No module named 'sounddevice'", name="sounddevice"), "pip install 'xlsr-live[mic]'"),
    ],
)
@pytest.mark.parametrize("command", ["mic", "devices"])
def test_a_missing_library_is_named(
    command: str, failure: Exception, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(name: str) -> None:
        raise failure

    monkeypatch.setattr(devices.importlib, "import_module", fail)
    assert run([command]) == 2
    assert words in capsys.readouterr().err


def record(blocks: list[bytes], seconds: float | None, portaudio: Callable[..., None]) -> tuple[Microphone, bytes, int]:
    FakeStream.blocks = blocks
    portaudio(FakePortAudio())
    levels: list[float] = []

    async def run() -> tuple[Microphone, bytes, int]:
        with closing(Microphone()) as mic:
            recorded = b"".join(
                [block async for block in mic.blocks(seconds, levels.append) if isinstance(block, bytes)]
            )
            return mic, recorded, len(levels)

    return asyncio.run(asyncio.wait_for(run(), 10))


def test_duration_is_kept_to_the_sample(portaudio: Callable[..., None]):
    blocks = [bytes([place]) * 1_600 for place in range(40)]
    mic, recorded, levels = record(blocks, 0.123, portaudio)
    assert recorded == b"".join(blocks)[: 2 * 1_968]
    assert levels == 3
    assert mic.dropped == 0


def test_a_recognizer_that_is_too_slow_costs_audio_that_is_counted(portaudio: Callable[..., None]):
    FakeStream.blocks = [bytes(1_600)] * 700  # 35 s; 30 s are held
    portaudio(FakePortAudio())

    async def run() -> tuple[float, float]:
        with closing(Microphone()) as mic:
            blocks = mic.blocks(None, lambda _: None)
            await anext(blocks)
            await asyncio.to_thread(mic._stream.thread.join)
            await asyncio.sleep(0.05)
            return mic.dropped, mic.silence

    dropped, silence = asyncio.run(run())
    assert 4.8 <= dropped <= 5.0
    assert silence == pytest.approx(35)


def test_silence_ends_with_the_first_sound(portaudio: Callable[..., None]):
    mic, _, _ = record([bytes(1_600), b"\1" * 1_600, bytes(1_600)], 0.15, portaudio)
    assert mic.silence == 0


def test_loudness():
    sine = np.sin(np.arange(1_600) * 2 * np.pi / 16)
    assert loudness((32_767 * sine).astype("<i2").tobytes()) == pytest.approx(0, abs=0.1)
    assert loudness((3_277 * sine).astype("<i2").tobytes()) == pytest.approx(-20, abs=0.1)
    assert loudness(bytes(100)) < -100
    assert loudness(b"") < -100


def test_quiet_hides_only_the_output_of_native_code(capfd: pytest.CaptureFixture[str]):
    with devices.quiet():
        os.write(2, b"ALSA lib pcm.c: Unknown PCM\n")
    print("heard", file=sys.stderr)
    assert capfd.readouterr().err == "heard\n"


@pytest.mark.parametrize("form", ["text", "plain"])
def test_very_quiet_speech_is_reported_once(
    form: str,
    recognizer: Recognizer,
    clip: Callable[[str], np.ndarray],
    portaudio: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    portaudio(FakePortAudio())
    monkeypatch.setattr("xlsr_live.client.commands.mic.load_recognizer", lambda _: nullcontext(recognizer))
    sound = np.concatenate([clip("george"), clip("jackson")])
    messages: dict[float, list[str]] = {}
    for gain in (1.0, 0.01):
        soft = np.rint(sound * gain).astype("<i2").tobytes()
        FakeStream.blocks = [soft[at : at + 1_600] for at in range(0, len(soft), 1_600)]
        assert run(["mic", "--duration", str(len(sound) / 16_000), "-f", form, "--vad", "none"]) == 0
        messages[gain] = [line for line in capsys.readouterr().err.splitlines() if "quiet" in line]
    assert messages[1.0] == []
    (line,) = messages[0.01]
    assert line.startswith("very_quiet: the speech is very quiet (")
