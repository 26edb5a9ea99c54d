"""Recognize recordings in this process."""

from __future__ import annotations

from pathlib import Path

from ...streaming.audio.files import open_audio
from ...streaming.config import AudioFormat, SessionConfig
from ...streaming.protocol.events import SessionEnded, SessionStarted
from ...streaming.recognizer import Recognizer
from ..output.formats import Output
from ..pump import pump
from ..sources.sources import file_blocks, paced


async def recognize_live(recognizer: Recognizer, file: Path, config: SessionConfig, pace: float, shown: Output) -> bool:
    """Send a recording through a session like live audio. Return whether the user interrupted."""
    recorded = open_audio(file)
    audio = AudioFormat(sample_rate=recorded.sample_rate, channels=recorded.channels)
    async with recognizer.session(config, audio) as session:
        return await pump(session, paced(file_blocks(recorded), audio, pace), shown.show)


def recognize_offline(recognizer: Recognizer, file: Path, config: SessionConfig, shown: Output) -> None:
    """One pass over a whole recording, shown as a session with one utterance."""
    seconds = open_audio(file).seconds
    final = recognizer.offline(file, config)
    shown.show(SessionStarted(session=file.name, model=recognizer.info.name, mode="offline"))
    if final:
        shown.show(final)
    shown.show(SessionEnded(audio_s=round(seconds, 3), utterances=int(final is not None)))
