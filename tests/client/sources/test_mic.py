"""The microphone without a sound system: stand-ins for PortAudio and for the recorder's process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest
from xlsr_live.client.cli import run
from xlsr_live.client.sources import devices, microphone, recorder
from xlsr_live.client.sources.devices import Device, MicrophoneError, choose, input_devices
from xlsr_live.client.sources.microphone import BLOCK_SECONDS, RING_SECONDS, Microphone, loudness
from xlsr_live.client.sources.recorder import HEAD, Recorder, RecorderProblem, RecorderReady
from xlsr_live.client.sources.sound_server import SoundSource
from xlsr_live.streaming.config import AudioFormat
from xlsr_live.streaming.recognizer import Recognizer

USB = Device(2, "USB Audio: Rode NT", "ALSA", 2, 44_100, False)
BUILT_IN = Device(0, "HDA Intel: ALC256", "ALSA", 2, 48_000, True)
WEBCAM = Device(5, "USB Camera: Audio", "ALSA", 1, 16_000, False)
RODE = Device(9, "Rode NT Mono", "PulseAudio", 1, 48_000, False, source="alsa_input.usb-Rode.mono")
LOUDSPEAKER = Device(9, "Monitor of ALC256", "PulseAudio", 2, 48_000, True, source="alsa_output.pci.monitor")


class PortAudioError(Exception):
    pass


class FakeStream:
    """Plays its blocks to the callback from a thread, as PortAudio does."""

    blocks: ClassVar[list[bytes]] = []

    def __init__(self, callback: Callable[..., None], **options: Any) -> None:
        self.callback = callback
        self.options = options
        self.thread = threading.Thread(target=self.play)
        self.closed = False

    def play(self) -> None:
        for block in self.blocks:
            self.callback(memoryview(block), len(block) // 2, None, None)
        self.options["finished_callback"]()

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
        for module in (devices, recorder):
            monkeypatch.setattr(module, "portaudio", lambda: fake)
        monkeypatch.setattr(devices, "list_sources", list)

    return install


def record(blocks: list[bytes] = [], wanted: str | None = None) -> tuple[Recorder, list[tuple[bytes, bool]]]:  # noqa: B006
    """All blocks of a recorder until the device stops."""
    FakeStream.blocks = blocks
    recorded: list[tuple[bytes, bool]] = []
    ended = threading.Event()
    with closing(Recorder(wanted, lambda *block: recorded.append(block), ended.set)) as made:
        assert ended.wait(60)
    return made, recorded


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """The recorder's process becomes one that sends these blocks, and then stays or ends."""

    def install(blocks: list[bytes], *, gap: bool = False, ends: bool = False, audio: AudioFormat = AudioFormat()):  # noqa: B008
        file = tmp_path / "recording"
        said = msgspec.json.encode(RecorderReady(BUILT_IN, audio)) + b"\n"
        file.write_bytes(said + b"".join(HEAD.pack(len(block), gap) + block for block in blocks))
        wait = "" if ends else "; import time; time.sleep(60)"
        code = f"import sys; sys.stdout.buffer.write(open({str(file)!r}, 'rb').read()); sys.stdout.flush(){wait}"
        monkeypatch.setattr(microphone, "RECORDER", (sys.executable, "-S", "-c", code))

    return install


def refuse(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """The recorder's process only prints this line."""
    monkeypatch.setattr(microphone, "RECORDER", (sys.executable, "-S", "-c", f"print({line!r})"))


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


def test_a_source_of_the_sound_server_comes_first():
    found = [BUILT_IN, USB, WEBCAM, RODE, LOUDSPEAKER]
    assert choose(found, None) is BUILT_IN
    assert choose(found, "rode") is RODE
    assert choose(found, "rode nt mono") is RODE
    assert choose(found, "alsa_output.pci.monitor") is LOUDSPEAKER
    assert choose(found, "2") is USB
    with pytest.raises(MicrophoneError, match="xlsr-live devices"):
        choose(found, "9")


def test_sources_are_reached_through_the_device_that_leads_to_the_server(
    portaudio: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    portaudio(FakePortAudio())
    source = SoundSource("rode.mono", "Rode NT", "PipeWire", 1, 48_000, True)
    monkeypatch.setattr(devices, "list_sources", lambda: [source])
    assert [device.name for device in input_devices()] == ["Mic"]  # which does not
    monkeypatch.setattr(devices, "SERVER_DEVICES", ("pulse", "Mic"))
    assert input_devices()[1] == Device(0, "Rode NT", "PipeWire", 1, 48_000, True, "rode.mono")
    for name in ("PULSE_SOURCE", "PIPEWIRE_NODE"):
        monkeypatch.setenv(name, "other")
    monkeypatch.setattr(recorder, "recorded_source", lambda: "other")
    with pytest.raises(MicrophoneError, match="ALSA leads to other"):
        record(wanted="rode.mono")
    assert os.environ["PULSE_SOURCE"] == "rode.mono"
    monkeypatch.setattr(recorder, "recorded_source", lambda: "rode.mono")
    assert record(wanted="rode.mono")[0].device.source == "rode.mono"


def test_the_device_opens_at_16_khz_mono_or_else_in_its_own_format(portaudio: Callable[..., None]):
    portaudio(FakePortAudio())
    assert record()[0].audio == AudioFormat(sample_rate=16_000, channels=1)
    portaudio(FakePortAudio(rates=(48_000,)))
    assert record()[0].audio == AudioFormat(sample_rate=48_000, channels=1)


@pytest.mark.parametrize(
    ("fake", "words"),
    [
        (FakePortAudio(inputs=0), "no input device"),
        (FakePortAudio(trouble=PortAudioError("Error opening: Device unavailable [PaErrorCode -9985]", -9985)), "busy"),
        (FakePortAudio(trouble=PortAudioError("Error opening: Permission denied", -9999)), "no permission"),
        (FakePortAudio(trouble=PortAudioError("Error opening: Internal error [PaErrorCode -9986]", -9986)), "Internal"),
    ],
)
def test_a_microphone_error_says_what_to_do(fake: FakePortAudio, words: str, portaudio: Callable[..., None]):
    portaudio(fake)
    with pytest.raises(MicrophoneError, match=words):
        record()


def test_an_error_of_the_recorder_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    refuse(monkeypatch, msgspec.json.encode(RecorderProblem("Mic is busy: close it")).decode())
    assert run(["mic"]) == 2
    assert capsys.readouterr().err == "xlsr-live: Mic is busy: close it\n"
    refuse(monkeypatch, "Segmentation fault")
    assert run(["mic"]) == 2
    assert "failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (OSError("PortAudio library not found"), "apt install libportaudio2"),
        (ModuleNotFoundError("No module named 'sounddevice'", name="sounddevice"), "pip install 'xlsr-live[mic]'"),
    ],
)
def test_a_missing_library_is_named(
    failure: Exception, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(name: str) -> None:
        raise failure

    monkeypatch.setattr(devices.importlib, "import_module", fail)
    assert run(["devices"]) == 2
    assert words in capsys.readouterr().err


def test_lost_audio_is_reported_with_the_block_after_it(portaudio: Callable[..., None]):
    portaudio(FakePortAudio())
    _, blocks = record([b"1" * 1_600, b"2" * 1_600])
    assert blocks == [(b"1" * 1_600, False), (b"2" * 1_600, False)]
    overflow = type("CallbackFlags", (), {"input_overflow": True, "__bool__": lambda _: True})()
    made, _ = record()
    made._put = lambda *block: blocks.append(block)
    made._record(memoryview(b"3" * 1_600), 800, None, overflow)
    assert blocks[-1] == (b"3" * 1_600, True)


def take(seconds: float | None) -> tuple[Microphone, bytes, int]:
    """The microphone, its audio and the number of levels."""
    levels: list[float] = []

    async def run() -> tuple[Microphone, bytes, int]:
        with closing(Microphone()) as mic:
            blocks = mic.blocks(seconds, levels.append)
            recorded = b"".join([block async for block in blocks if isinstance(block, bytes)])
            return mic, recorded, len(levels)

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_duration_is_kept_to_the_sample(recording: Callable[..., None]):
    blocks = [bytes([place]) * 1_600 for place in range(40)]
    recording(blocks)
    mic, recorded, levels = take(0.123)
    assert recorded == b"".join(blocks)[: 2 * 1_968]
    assert levels == 3
    assert mic.dropped == 0


def test_audio_from_before_the_first_taker_is_kept_up_to_a_limit_and_the_rest_counted(recording: Callable[..., None]):
    most = int(RING_SECONDS / BLOCK_SECONDS)
    blocks = [number.to_bytes(2, "little") * 800 for number in range(1, most + 101)]
    recording(blocks, ends=True)

    async def run() -> list[bytes]:
        with closing(Microphone()) as mic:
            assert mic.wait(60)
            while not mic._ended:
                await asyncio.sleep(0.01)
            assert mic.dropped == pytest.approx(100 * BLOCK_SECONDS)
            assert mic.waiting == pytest.approx(RING_SECONDS)
            taken = mic.blocks(None, lambda _: None)
            recorded = [await anext(taken) for _ in range(most)]
            with pytest.raises(MicrophoneError, match="has stopped"):
                await anext(taken)
            return recorded

    assert asyncio.run(run()) == blocks[100:]


def test_a_stop_keeps_the_audio_that_waits(recording: Callable[..., None]):
    blocks = [number.to_bytes(2, "little") * 800 for number in range(1, 101)]
    recording(blocks)

    async def run() -> list[bytes]:
        with closing(Microphone()) as mic:
            while mic.waiting < 5:
                await asyncio.sleep(0.01)
            mic.stop()
            return [block async for block in mic.blocks(None, lambda _: None)]

    assert asyncio.run(asyncio.wait_for(run(), 60)) == blocks


def test_gaps_are_counted(recording: Callable[..., None]):
    recording([bytes(1_600)] * 3, gap=True)
    assert take(0.15)[0].gaps == 3


def test_silence_ends_with_the_first_sound(recording: Callable[..., None]):
    recording([bytes(1_600), b"\1" * 1_600, bytes(1_600)])
    assert take(0.15)[0].silence == 0
    recording([bytes(1_600)] * 3)
    assert take(0.15)[0].silence == pytest.approx(0.15)


def test_the_recorder_ends_with_its_reader():
    """A killed `mic` must not leave a process that holds the microphone."""
    code = """
import sys
from xlsr_live.client.sources import recorder
class Endless:
    device, audio = recorder.Device(0, "Mic", "ALSA", 1, 16_000, True), recorder.AudioFormat()
    def __init__(self, wanted, put, ended):
        import threading, time
        def play():
            while True:
                put(bytes(1_600), False)
                time.sleep(0.01)
        threading.Thread(target=play, daemon=True).start()
recorder.Recorder = Endless
sys.argv = ["recorder", ""]
recorder.main()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert b"RecorderReady" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == b""


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
    recording: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr("xlsr_live.client.commands.mic.load_recognizer", lambda _: nullcontext(recognizer))
    sound = np.concatenate([clip("george"), clip("jackson")])
    messages: dict[float, list[str]] = {}
    for gain in (1.0, 0.01):
        soft = np.rint(sound * gain).astype("<i2").tobytes()
        recording([soft[at : at + 1_600] for at in range(0, len(soft), 1_600)])
        assert run(["mic", "--duration", str(len(sound) / 16_000), "-f", form, "--vad", "none"]) == 0
        notes = capsys.readouterr().err.splitlines()
        messages[gain] = [line for line in notes if "quiet" in line]
        named = f"Model: {recognizer.info.name}. It is small: expect errors."
        assert notes.count(named) == (form == "plain")
    assert messages[1.0] == []
    (line,) = messages[0.01]
    assert line.startswith("very_quiet: the speech is very quiet (")
