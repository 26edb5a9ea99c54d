"""A PulseAudio server of its own, with a null sink whose monitor is the microphone; and `xlsr-live mic` on it.

Needs PulseAudio, its ALSA plug-in and PortAudio: Debian's pulseaudio, pulseaudio-utils, libasound2-plugins,
libportaudio2.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xlsr_live.streaming.protocol.events import Event, from_json

SINK = "xlsr_test"
TAIL = 2.0  # seconds without an event, and without an open utterance, after which the last audio has been recognized
CLI = (sys.executable, "-u", "-m", "xlsr_live.client.cli")
ALSA = """
pcm.!default { type pulse }
ctl.!default { type pulse }
"""


def missing() -> str | None:
    """The name of a missing program or library."""
    for program in ("pulseaudio", "paplay", "pactl"):
        if shutil.which(program) is None:
            return program
    plugins = Path("/usr/lib").glob("**/alsa-lib/libasound_module_pcm_pulse.so")
    if next(plugins, None) is None:
        return "libasound2-plugins"
    # In its own process: PortAudio looks for sound systems only when it is loaded.
    found = subprocess.run([sys.executable, "-c", "import sounddevice"], capture_output=True, check=False)
    return None if found.returncode == 0 else "sounddevice with PortAudio"


@contextmanager
def sound_server(home: Path, *modules: str) -> Iterator[dict[str, str]]:
    """The server, with these modules besides; yields the environment in which programs use it."""
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
    sink = f"module-null-sink sink_name={SINK} rate=16000 channels=1"
    loads = [f"--load={module}" for module in ("module-native-protocol-unix", sink, *modules)]
    with (home / "log").open("w") as log:
        daemon = subprocess.Popen(["pulseaudio", *arguments, *loads], env=environment, stderr=log)
        try:
            deadline = time.monotonic() + 60
            while subprocess.run(["pactl", "info"], env=environment, capture_output=True, check=False).returncode:
                assert daemon.poll() is None, (home / "log").read_text()
                assert time.monotonic() < deadline, "pulseaudio does not answer"
                time.sleep(0.1)
            yield environment
        finally:
            daemon.terminate()
            daemon.wait(60)


def listen(environment: dict[str, str], recording: Path, *arguments: str) -> tuple[list[Event], str, float]:
    """Run `mic` and play the recording from the moment when it asks for speech; stop it with Ctrl-C at last.

    Returns its events, its messages, and the time of that moment (`time.monotonic`).
    """
    master, slave = os.openpty()  # `mic` asks people only
    program = [*CLI, "mic", "--format", "jsonl", *arguments]
    mic = subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=slave, text=True)
    os.close(slave)
    assert mic.stdout is not None
    said = b""
    player, asked = None, 0.0
    lines: list[str] = []
    reader = threading.Thread(target=lambda out: [lines.append(line) for line in out], args=(mic.stdout,))
    try:
        while player is None and (data := _read(master)):
            said += data
            if b"speak" in said:
                asked = time.monotonic()
                # The server holds all of it from the start: a late player would leave gaps.
                player = subprocess.Popen(["paplay", "--latency-msec=60000", str(recording)], env=environment)
        first = mic.stdout.readline()  # the session has started: an earlier Ctrl-C ends the program
        reader.start()
        if player:
            player.wait()
            events = -1
            while len(lines) > events or not any("speech_ended" in line for line in lines[-1:]):
                events = len(lines)
                time.sleep(TAIL)
            mic.send_signal(signal.SIGINT)
        while data := _read(master):
            said += data
        mic.wait(60)
        reader.join()
        mic.stdout.close()
    finally:
        os.close(master)
        mic.kill()
        mic.wait()
        if player:
            player.kill()
            player.wait()
    messages = said.decode()
    assert mic.returncode == 130, messages
    return [from_json(line) for line in (first, *lines)], messages, asked


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # the program has ended
        return b""
