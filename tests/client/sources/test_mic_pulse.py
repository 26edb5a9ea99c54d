"""The microphone on a real sound system: PortAudio on ALSA on a PulseAudio server of this test."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from xlsr_live.server.run import running_server
from xlsr_live.streaming.protocol.events import Event, Final, SessionEnded, SessionStarted
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.paths import DIGITS
from tests.support.pulse import CLI, SINK, listen, missing, sound_server

WORDS = "THREE EIGHT FOUR FIVE FIVE FOUR"
OTHER = "other_microphone"

pytestmark = pytest.mark.skipif(missing() is not None, reason=f"not installed: {missing()}")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Programs in it use the sound server of this test. A second source there is silent."""
    other = f"module-null-source source_name={OTHER} description=Other rate=16000 channels=1"
    with sound_server(tmp_path_factory.mktemp("pulse"), other) as environment:
        yield environment


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, clip: Callable[[str], np.ndarray]) -> Path:
    path = tmp_path_factory.mktemp("clip") / "jackson.wav"
    soundfile.write(path, clip("jackson"), 16_000)
    return path


def text(events: list[Event]) -> str:
    return " ".join(event.text for event in events if isinstance(event, Final))


def test_words_said_while_the_model_loads_are_recognized(environment: dict[str, str], recording: Path):
    events, messages, _ = listen(environment, recording, "--model", str(DIGITS))
    assert isinstance(events[0], SessionStarted)
    assert isinstance(events[-1], SessionEnded)
    assert text(events) == WORDS
    assert messages.index("speak") < messages.index("loading the model")
    assert "lost" not in messages


def test_speech_into_a_named_source_is_recognized_through_a_server(
    environment: dict[str, str], recording: Path, recognizer: Recognizer
):
    elsewhere = environment | {"PULSE_SOURCE": OTHER}
    with running_server(recognizer) as server:
        events, _, _ = listen(elsewhere, recording, "--microphone", f"{SINK}.monitor", "--url", server.url)
        assert text(events) == WORDS


def test_the_sources_of_the_server_are_listed(environment: dict[str, str]):
    for arguments in (["devices"], ["mic", "--list"]):
        done = subprocess.run(
            [*CLI, *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert any(line.startswith("*") and " default " in line for line in lines), done.stdout
        assert any(f"{OTHER}  Other  (PulseAudio, 1 ch, 16000 Hz)" in line for line in lines), done.stdout


def test_an_unknown_source_is_refused(environment: dict[str, str]):
    done = subprocess.run(
        [*CLI, "mic", "--microphone", "loud"], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (2, "xlsr-live: no input device 'loud'; see: xlsr-live devices\n")
