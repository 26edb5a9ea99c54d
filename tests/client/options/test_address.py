"""--url in the forms that people write."""

from __future__ import annotations

import click
import pytest
from xlsr_live.client.options.address import stream_url, urls_option


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("studio", "ws://studio:8765/v1/stream"),
        ("studio:", "ws://studio:8765/v1/stream"),
        ("https://studio:/", "wss://studio/v1/stream"),
        ("studio:9000", "ws://studio:9000/v1/stream"),
        ("127.0.0.1:8765", "ws://127.0.0.1:8765/v1/stream"),
        ("[::1]:9000", "ws://[::1]:9000/v1/stream"),
        ("http://studio:9000/", "ws://studio:9000/v1/stream"),
        ("https://speech.example.org", "wss://speech.example.org/v1/stream"),
        ("https://example.org/speech/", "wss://example.org/speech/v1/stream"),
        ("https://example.org/speech/v1/stream", "wss://example.org/speech/v1/stream"),
        ("ws://studio:9000", "ws://studio:9000/v1/stream"),
        ("wss://example.org/other/path?key=1", "wss://example.org/other/path?key=1"),
    ],
)
def test_an_address(written: str, expected: str):
    assert stream_url(written) == expected
    assert stream_url(expected) == expected


def test_several_addresses():
    found: list[list[str]] = []
    command = click.Command("x", callback=lambda url: found.append(url))
    command = urls_option("The server.")(command)
    for arguments in ([], ["--url", "studio"], ["--url", "studio, hall:9000"]):
        command.main(arguments, standalone_mode=False)
    studio, hall = "ws://studio:8765/v1/stream", "ws://hall:9000/v1/stream"
    assert found == [[], [studio], [studio, hall]]


@pytest.mark.parametrize(
    "written", ["", "ftp://studio", "ws://", "studio:port", "http://studio:99999", "studio:0", "ws://studio:0"]
)
def test_no_address(written: str):
    with pytest.raises(ValueError, match=r"is not an address|^Port"):
        stream_url(written)
