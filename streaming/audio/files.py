"""Audio files, read block by block (libsndfile: WAV, FLAC, Ogg, MP3 and more; libav where PyAV is installed)."""

from __future__ import annotations

import io
import os
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from ..config import MAX_CHANNELS, MAX_RATE, MIN_RATE, AudioFormat
from ..errors import AudioError
from ..frames import FIELD, SAMPLE_RATE, too_short
from ..quiet import quiet
from .header_repair import repaired
from .libav import LibavFile, open_media
from .libsndfile import SequentialFile, open_file
from .samples import as_packet, checked, shaped

AudioSource = Path | str | bytes | BinaryIO
AudioInput = AudioSource | NDArray[np.floating]  # arrays: 16 kHz samples in [-1, 1], (n,) or (n, channels)


class AudioFile:
    """An open file; `blocks` reads it once, from its start."""

    def __init__(self, name: str, file: SequentialFile | LibavFile, resources: ExitStack) -> None:
        self.name = name  # for messages
        self.sample_rate: int = file.samplerate
        self.channels: int = file.channels
        self.seconds: float = file.frames / file.samplerate
        self._file = file
        self._close = weakref.finalize(self, resources.close)

    def blocks(self, seconds: float = 0.1) -> Iterator[NDArray[np.float32]]:
        """Blocks of (n, channels) at the file's own rate, float32 in [-1, 1]; closes the file at the end.

        Raises `AudioError` at the block that cannot be read.
        """
        size = max(1, round(seconds * self.sample_rate))
        try:
            while len(block := _read(self._file, size)):
                yield checked(block)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{self.name}: the file is damaged: {error.error_string}") from error
        except AudioError as error:
            raise AudioError(f"{self.name}: {error}") from error
        finally:
            self._close()


def open_audio(source: AudioSource, *, media: bool = True) -> AudioFile:
    """Open a file by its path, its bytes or a binary file object. A pipe is read to its end first.

    With `media`, libav reads what libsndfile cannot; it decodes the whole file once to know its length.

    Raises `AudioError` if it is missing, unreadable, empty, shorter than one frame, or not audio.
    """
    name = str(source if isinstance(source, Path | str) else getattr(source, "name", "the audio"))
    with ExitStack() as resources:
        try:
            file = _open(name, _readable(name, source, resources), resources, media)
        except FileNotFoundError:
            raise AudioError(f"{name}: no such file") from None
        except OSError as error:
            raise AudioError(f"{name}: cannot be opened: {error.strerror or error}") from error
        if problem := _problem(file):
            raise AudioError(f"{name}: {problem}")
        return AudioFile(name, file, resources.pop_all())


def open_input(audio: AudioInput, seconds: float = 0.1) -> tuple[AudioFormat, Iterator[NDArray[np.floating]]]:
    """A file, or samples in memory (an array, a list or a tensor), as blocks of that length. Raises `AudioError`."""
    if isinstance(audio, Path | str | bytes) or hasattr(audio, "read"):
        file = open_audio(cast(AudioSource, audio))
        return AudioFormat(sample_rate=file.sample_rate, channels=file.channels), file.blocks(seconds)
    samples = cast(NDArray[np.floating], as_packet(audio))
    if samples.ndim == 2 and samples.shape[1] > MAX_CHANNELS:
        raise AudioError(
            f"audio of shape {samples.shape}: the first axis is time, the second holds at most {MAX_CHANNELS} channels"
        )
    samples = shaped(samples, samples.shape[1] if samples.ndim == 2 else 1)
    size = round(seconds * SAMPLE_RATE)
    blocks = (samples[at : at + size] for at in range(0, len(samples), size))
    return AudioFormat(channels=samples.shape[1]), blocks


def _readable(name: str, source: AudioSource, resources: ExitStack) -> bytes | Path | BinaryIO:
    """The source as a path, or as a stream that can seek where libsndfile cannot open the path by itself."""
    if isinstance(source, Path | str):
        if Path(source).is_dir():
            raise AudioError(f"{name}: is a directory, not an audio file")
        stream = resources.enter_context(Path(source).open("rb"))  # noqa: SIM115
    else:
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
    if not stream.seekable():
        stream = io.BytesIO(stream.read())
    if not stream.read(1):
        raise AudioError(f"{name}: the file is empty")
    stream.seek(0)
    if (usable := repaired(stream)) is not None:
        return resources.enter_context(usable)
    if not isinstance(source, Path | str) or isinstance(stream, io.BytesIO):
        return stream
    stream.close()
    path = Path(source)  # libsndfile reads it faster than a Python file
    return os.fsencode(path) if os.name == "posix" else path  # a name does not have to be UTF-8


def _open(
    name: str, readable: bytes | Path | BinaryIO, resources: ExitStack, media: bool
) -> SequentialFile | LibavFile:
    """The file through libsndfile; else, with `media`, through libav."""
    try:
        return resources.enter_context(open_file(readable))
    except soundfile.LibsndfileError as error:
        problem = error.error_string
    if media:
        if isinstance(readable, bytes | Path):
            readable = resources.enter_context(Path(os.fsdecode(readable)).open("rb"))  # noqa: SIM115
        readable.seek(0)
        try:
            if (file := open_media(readable)) is not None:
                return file
        except AudioError as error:
            raise AudioError(f"{name}: {error}") from error
    raise AudioError(f"{name}: not an audio file, or damaged: {problem}")


def _read(file: SequentialFile | LibavFile, size: int) -> NDArray[np.float32]:
    with quiet(any_thread=False):
        return cast(NDArray[np.float32], file.read(size, dtype="float32", always_2d=True))


def _problem(file: SequentialFile | LibavFile) -> str | None:
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        return f"the sample rate is {file.samplerate} Hz; it must be {MIN_RATE} to {MAX_RATE} Hz"
    if file.channels > MAX_CHANNELS:
        return f"the file has {file.channels} channels; at most {MAX_CHANNELS} are supported"
    if file.frames == 0:
        return "the file has no audio"
    if file.frames * SAMPLE_RATE < FIELD * file.samplerate:
        return too_short(file.frames, file.samplerate)
    return None
