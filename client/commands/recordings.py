"""Recognizes recordings in this process."""

from __future__ import annotations

from ...streaming.audio.files import open_audio
from ...streaming.config import AudioFormat, SessionConfig
from ...streaming.protocol.events import SessionEnded, SessionStarted
from ...streaming.recognizer import Recognizer
from ..console import printable
from ..output.formats import Output
from ..pump import pump
from ..sources.recordings import Recording
from ..sources.sources import file_blocks, paced


async def recognize_live(
    recognizer: Recognizer, recording: Recording, config: SessionConfig, pace: float, shown: Output
) -> int:
    """Send a recording through a session, as live audio. Returns the exit status (`pump`)."""
    file = open_audio(recording.source)
    audio = AudioFormat(sample_rate=file.sample_rate, channels=file.channels)
    async with recognizer.session(config, audio, complete_translations=not pace) as session:
        return await pump(session, paced(file_blocks(file), audio, pace), shown.show)


def recognize_offline(recognizer: Recognizer, recording: Recording, config: SessionConfig, shown: Output) -> None:
    """Recognize a whole recording in one pass, and show it as a session with one utterance."""
    seconds = open_audio(recording.source).seconds
    name = printable(recording.path.name)
    shown.show(SessionStarted(session=name, model=recognizer.info.name, mode="offline"))
    final = recognizer.offline(recording.source, config)
    if final:
        shown.show(final)
    shown.show(SessionEnded(audio_s=round(seconds, 3), utterances=int(final is not None)))
