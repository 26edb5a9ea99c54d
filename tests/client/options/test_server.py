"""The access token of a client."""

from __future__ import annotations

from pathlib import Path

import pytest
from xlsr_live.client.options.server import TOKEN_VARIABLE, read_token
from xlsr_live.streaming.errors import ConfigError


def test_blanks_around_a_token_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "token").write_text(" open sesame\r\n")
    assert read_token(tmp_path / "token") == "open sesame"
    monkeypatch.setenv(TOKEN_VARIABLE, "open sesame\n")
    assert read_token(None) == "open sesame"
    monkeypatch.setenv(TOKEN_VARIABLE, "\n")
    assert read_token(None) is None


@pytest.mark.parametrize("token", ["open\nsesame", "open\x1bsesame", "s\u00e9same"])
def test_what_no_header_can_hold_is_refused_without_the_token(
    token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "token").write_text(token, encoding="utf-8")
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    for path, where in ((tmp_path / "token", str(tmp_path / "token")), (None, TOKEN_VARIABLE)):
        with pytest.raises(ConfigError, match=f"{where}: the token must be one line of printable ASCII") as refused:
            read_token(path)
        assert "same" not in str(refused.value)
