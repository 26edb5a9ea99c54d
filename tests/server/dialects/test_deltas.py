"""Text in pieces that are never revised."""

from __future__ import annotations

from xlsr_live.server.dialects.deltas import Deltas


def test_deltas_revise_nothing():
    deltas = Deltas(lambda *texts: " ".join(text for text in texts if text))
    assert [deltas.partial(text) for text in ("", "A", "A B", "A B")] == ["", "A", " B", ""]
    assert deltas.final("A B C") == " C"
    assert deltas.partial("D") == " D"
    assert deltas.final("X") == ""  # instead of D
    assert deltas.partial("Y") == ""
    assert deltas.text == "A B C X"
