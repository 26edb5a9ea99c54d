"""Words lost at the start of `xlsr-live mic`: speech from the moment when it asks for speech, while the model loads.

    python -m tests.figures.measure_starts [STARTS]

Each start is a new process on a PulseAudio server of its own (Debian's pulseaudio, pulseaudio-utils,
libasound2-plugins). Prints one line a start: seconds until it asks for speech, and the words that came of those spoken.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import soundfile
from xlsr_live.streaming.protocol.events import Final, SessionEnded

from tests.support.paths import CLIPS, DIGITS
from tests.support.pulse import listen, missing, sound_server

CLIP, WORDS = "jackson", ["THREE", "EIGHT", "FOUR", "FIVE", "FIVE", "FOUR"]
STARTS = 20


def main(starts: int) -> None:
    if (name := missing()) is not None:
        sys.exit(f"not installed: {name}")
    losses = 0
    with TemporaryDirectory() as folder, sound_server(Path(folder)) as environment:
        recording = Path(folder) / f"{CLIP}.wav"
        samples, rate = soundfile.read(CLIPS / f"{CLIP}.flac", dtype="int16")
        soundfile.write(recording, samples, rate)
        for start in range(1, starts + 1):
            begun = time.monotonic()
            events, messages, asked = listen(environment, recording, "--model", str(DIGITS))
            words = " ".join(event.text for event in events if isinstance(event, Final)).split()
            losses += words != WORDS or "lost" in messages
            seconds = events[-1].audio_s if isinstance(events[-1], SessionEnded) else 0
            said = f"{len(words)} of {len(WORDS)} words  {' '.join(words)}"
            print(f"{start:3}  asks after {asked - begun:4.1f} s  {seconds:4.1f} s of audio  {said}", flush=True)
    print(f"{losses} of {starts} starts lost words")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else STARTS)
