"""Files that libsndfile reads once from their start."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from ..quiet import quiet

Float32 = NDArray[np.float32]

_UNKNOWN: Final = 1 << 62  # frames of a file whose header does not give their number
_COUNTED: Final = 1 << 12  # frames in a block


class SequentialFile(soundfile.SoundFile):
    """Without the seek after each read: FLAC of unknown length has no seek, and that of MP3 is inexact."""

    counted: int | None = None

    def seekable(self) -> bool:
        return False

    @property
    def frames(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._info.frames if self.counted is None else self.counted


def open_file(source: bytes | Path | BinaryIO) -> SequentialFile:
    """Open a file; one of unknown length is decoded once to count its frames. Raises `LibsndfileError`."""
    with quiet(any_thread=False):
        file = SequentialFile(cast(Path, source))
        if file.frames < _UNKNOWN:
            return file
        block, counted = np.empty((_COUNTED, file.channels), np.float32), 0
        with file, suppress(soundfile.LibsndfileError):  # damage: reading raises it again at its place
            while count := len(cast(Float32, file.read(out=block))):
                counted += count
        if not isinstance(source, bytes | Path):
            source.seek(0)
        file = SequentialFile(cast(Path, source))
        file.counted = counted
        return file
