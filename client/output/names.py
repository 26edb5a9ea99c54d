"""Names of output files: the date and time in a name, and another name if the file exists."""

from __future__ import annotations

import re
from datetime import datetime
from itertools import count
from pathlib import Path

from ..console import complain


def dated(path: Path, now: datetime | None = None) -> Path:
    """The path with the local time for %Y, %m, %d, %H, %M and %S in it; other percent signs stay."""
    now = now or datetime.now()
    return Path(re.sub("%[YmdHMS]", lambda found: now.strftime(found[0]), str(path)))


def unused(path: Path, *, overwrite: bool, lines: int = 0) -> Path:
    """The path; or, if a file there has content and `overwrite` is false, the first free of talk-1.vtt, talk-2.vtt, ...

    A new name is printed. A file of at most `lines` lines may be replaced.
    """
    if overwrite or not _would_lose(path, lines):
        return path
    free = next(new for n in count(1) if not (new := path.with_stem(f"{path.stem}-{n}")).exists())
    complain(f"{path} exists: writing {free} (--overwrite replaces it)")
    return free


def _would_lose(path: Path, lines: int) -> bool:
    """Whether this is a file (no device or pipe) with more lines than that."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        return lines == 0 or sum(1 for _ in zip(range(lines + 1), file, strict=False)) > lines
