"""Text files in the encodings in which editors save them."""

from __future__ import annotations

from pathlib import Path

import pytest
from xlsr_live.streaming.errors import ConfigError
from xlsr_live.streaming.textfile import decode_text, read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_utf_8_with_and_without_a_byte_order_mark(encoding: str, newline: str):
    assert decode_text(f"é = 1{newline}ß".encode(encoding)) == "é = 1\nß"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a = 1".encode("utf-16"), "UTF-16 or UTF-32; save it as UTF-8"),
        ("a = 1".encode("utf-16-le"), "UTF-16 or UTF-32; save it as UTF-8"),
        ("a = 1".encode("utf-16-be"), "UTF-16 or UTF-32; save it as UTF-8"),
        ("a = 1".encode("utf-32"), "UTF-16 or UTF-32; save it as UTF-8"),
        ("a = é".encode("latin-1"), r"not UTF-8 \(byte 0xe9 at 4\); save it as UTF-8"),
    ],
)
def test_other_encodings_are_named(data: bytes, message: str):
    with pytest.raises(ConfigError, match=message):
        decode_text(data)


def test_the_error_names_the_file(tmp_path: Path):
    file = tmp_path / "words.txt"
    with pytest.raises(ConfigError, match=rf"cannot read the words {file}: No such file"):
        read_text(file, "the words")
    file.write_text("a", encoding="utf-16")
    with pytest.raises(ConfigError, match=rf"cannot read the words {file}: it is UTF-16"):
        read_text(file, "the words")
