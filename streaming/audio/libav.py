"""Audio that libsndfile cannot read (MP4, M4A, WebM, Matroska, AAC and more), decoded by libav if PyAV is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ..config import AudioFormat
from ..errors import AudioError, ConfigError

Float32 = NDArray[np.float32]


class Readable(Protocol):
    """A source of bytes for libav. It may also have `seek`."""

    def read(self, size: int, /) -> bytes: ...


MAGIC: Final = (  # at an offset of a file
    (4, b"ftyp"),  # MP4, M4A, QuickTime
    (0, b"\x1a\x45\xdf\xa3"),  # WebM, Matroska
    (0, b"\xff\xf1"),  # AAC
    (0, b"\xff\xf9"),
    (0, b"\x30\x26\xb2\x75"),  # WMA
    (0, b"#!AMR"),
    (0, b"FLV\x01"),
)
SHARED_MAGIC: Final = (b"RIFF", b"OggS")  # WAV and Ogg with codecs that libsndfile does not know; AVI
NEEDS_PYAV: Final = "this format needs PyAV: pip install 'xlsr-live[containers]'"


def available() -> bool:
    """Whether PyAV is installed."""
    try:
        import av  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        return False
    return True


def decode(file: str | Readable, container: str | None = None) -> Iterator[tuple[AudioFormat, Float32]]:
    """Blocks (n, channels) of the first audio stream of a path or readable object, each with its format.

    Raises `AudioError`.
    """
    import av
    from av.audio.resampler import AudioResampler
    from av.error import FFmpegError

    try:
        with av.open(file, "r", format=container) as opened:
            # Changes the sample format only, not rate and channels. Packed, not planar: PyAV reads planes up to a null
            # pointer, and after eight planes there is none (av/audio/frame.py).
            packed = AudioResampler(format="flt")
            for frame in opened.decode(opened.streams.audio[0]):
                for each in packed.resample(frame):
                    form = AudioFormat(
                        encoding="pcm_f32le", sample_rate=each.sample_rate, channels=each.layout.nb_channels
                    )
                    yield form, cast(Float32, each.to_ndarray()).reshape(-1, form.channels)
    except ConfigError as error:  # an unsupported rate or number of channels
        raise AudioError(str(error)) from None
    except (FFmpegError, IndexError, ValueError) as error:  # no audio stream, or one that changes
        raise AudioError(f"the audio is damaged or its codec is unknown: {error}") from None


def is_media(head: bytes) -> bool:
    """Whether only libav can read a file with these first bytes."""
    return any(head[at : at + len(magic)] == magic for at, magic in MAGIC)


def open_media(source: BinaryIO) -> LibavFile | None:
    """The file, if libav can read it. Raises `AudioError` for a format that only libav reads.

    The source is at its start.
    """
    head = source.read(16)
    source.seek(0)
    for_libav = is_media(head)
    if not for_libav and head[:4] not in SHARED_MAGIC:
        return None
    try:
        if not available():
            raise AudioError(NEEDS_PYAV)
        return LibavFile(source)
    except AudioError:
        if for_libav:
            raise
        return None  # libsndfile has the better message


class LibavFile:
    """A media file, with the methods of `soundfile.SoundFile` that `AudioFile` uses. Raises `AudioError`."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.frames = 0  # counted by decoding the file once: containers often do not know their length
        form: AudioFormat | None = None
        try:
            for each, block in decode(source):
                form = each
                self.frames += len(block)
        except AudioError:  # damage after good audio: `read` raises it again when it gets there
            if form is None:
                raise
        if form is None:
            raise AudioError("the file has no audio")
        self.samplerate, self.channels = form.sample_rate, form.channels
        self._rest = np.empty((0, form.channels), np.float32)
        source.seek(0)
        self._blocks = decode(source)

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> Float32:
        """The next samples, (n, channels); fewer than `frames` only at the end."""
        parts, count = [self._rest], len(self._rest)
        while count < frames and (decoded := next(self._blocks, None)) is not None:
            parts.append(decoded[1])
            count += len(decoded[1])
        samples = np.concatenate(parts)
        self._rest = samples[frames:]
        return samples[:frames]

    def close(self) -> None:
        self._source.close()
