"""Names of output files."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from xlsr_live.client.output.names import dated, unused


def test_only_these_letters_are_the_time():
    now = datetime(2026, 11, 30, 9, 5, 7)
    assert dated(Path("%Y/%Y-%m-%d-%H%M%S 100% %q.vtt"), now) == Path("2026/2026-11-30-090507 100% %q.vtt")


def test_what_has_no_content_may_be_replaced(tmp_path: Path):
    empty = tmp_path / "empty.srt"
    empty.touch()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (empty, pipe, tmp_path / "missing.srt", Path("/dev/stdout")):
        assert unused(path, overwrite=False) == path
