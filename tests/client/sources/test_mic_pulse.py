"""The microphone on a real sound system: PortAudio on ALSA on a PulseAudio server of this test.

A clip is played into a null sink; `xlsr-live mic` records the sink's monitor. Needs PulseAudio, its ALSA plug-in and
PortAudio: Debian's pulseaudio, pulseaudio-utils, libasound2-plugins, libportaudio2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from xlsr_live.server.run import running_server
from xlsr_live.streaming.protocol.events import Event, Final, SessionStarted, from_json
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.paths import DIGITS

SINK = "xlsr_test"
ALSA = """
pcm.!default { type pulse }
ctl.!default { type pulse }
"""


def missing() -> str | None:
    """The names of missing programs and libraries."""
    for program in ("pulseaudio", "paplay", "pactl"):
        if shutil.which(program) is None:
            return program
    plugins = Path("/usr/lib").glob("**/alsa-lib/libasound_module_pcm_pulse.so")
    if next(plugins, None) is None:
        return "libasound2-plugins"
    # In its own process: PortAudio looks for sound systems only when it is loaded.
    found = subprocess.run([sys.executable, "-c", "import sounddevice"], capture_output=True, check=False)
    return None if found.returncode == 0 else "sounddevice with PortAudio"


pytestmark = pytest.mark.skipif(missing() is not None, reason=f"not installed: {missing()}")


@pytest.fixture(scope="module")
def plumbing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A sound server for this test, and the environment in which programs use it."""
    home = tmp_path_factory.mktemp("pulse")
    home.chmod(0o700)
    (home / "asound.conf").write_text(f"</usr/share/alsa/alsa.conf>\n{ALSA}")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PULSE_", "ALSA_"))},
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "PULSE_RUNTIME_PATH": str(home / "pulse"),
        "PULSE_SERVER": f"unix:{home / 'pulse' / 'native'}",
        "PULSE_SINK": SINK,
        "PULSE_SOURCE": f"{SINK}.monitor",
        "ALSA_CONFIG_PATH": str(home / "asound.conf"),
    }
    arguments = ["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--log-level=error"]
    modules = ["module-native-protocol-unix", f"module-null-sink sink_name={SINK} rate=16000 channels=1"]
    loads = [f"--load={module}" for module in modules]
    with (home / "log").open("w") as log:
        daemon = subprocess.Popen(["pulseaudio", *arguments, *loads], env=environment, stderr=log)
        try:
            deadline = time.monotonic() + 10
            while subprocess.run(["pactl", "info"], env=environment, capture_output=True, check=False).returncode:
                assert daemon.poll() is None, (home / "log").read_text()
                assert time.monotonic() < deadline, "pulseaudio does not answer"
                time.sleep(0.1)
            yield environment
        finally:
            daemon.terminate()
            daemon.wait(10)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, clip: Callable[[str], np.ndarray]) -> Path:
    path = tmp_path_factory.mktemp("clip") / "jackson.wav"
    soundfile.write(path, clip("jackson"), 16_000)
    return path


def listen(environment: dict[str, str], recording: Path, *arguments: str) -> list[Event]:
    """Play the recording once the session has started; returns the output of `mic`."""
    mic = subprocess.Popen(
        [
            sys.executable,
            "-u",
            "-m",
            "xlsr_live.client.cli",
            "mic",
            "--format",
            "jsonl",
            "--duration",
            "12",
            *arguments,
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert mic.stdout is not None
        first = mic.stdout.readline()
        if first:
            subprocess.run(["paplay", str(recording)], env=environment, check=True, timeout=30)
        out, err = mic.communicate(timeout=60)
    finally:
        mic.kill()
    assert mic.returncode == 0, err
    # Until the recording starts all samples are zero; on a busy machine that can take seconds.
    assert not [line for line in err.splitlines() if "zeros" not in line]
    return [from_json(line) for line in (first + out).splitlines()]


def text(events: list[Event]) -> str:
    return " ".join(event.text for event in events if isinstance(event, Final))


def test_speech_into_the_microphone_is_printed(plumbing: dict[str, str], recording: Path):
    events = listen(plumbing, recording, "--model", str(DIGITS))
    assert isinstance(events[0], SessionStarted)
    assert text(events) == "THREE EIGHT FOUR FIVE FIVE FOUR"


def test_speech_into_the_microphone_is_printed_through_a_server(
    plumbing: dict[str, str], recording: Path, recognizer: Recognizer
):
    with running_server(recognizer) as server:
        assert text(listen(plumbing, recording, "--url", server.url)) == "THREE EIGHT FOUR FIVE FIVE FOUR"


def test_the_devices_are_listed(plumbing: dict[str, str]):
    for arguments in (["devices"], ["mic", "--list"]):
        done = subprocess.run(
            [sys.executable, "-m", "xlsr_live.client.cli", *arguments],
            env=plumbing,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert any(line.startswith("*") and "default" in line for line in done.stdout.splitlines()), done.stdout
