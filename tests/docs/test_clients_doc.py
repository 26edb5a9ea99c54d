"""The examples in docs/clients.md print what the native protocol returns for the same audio."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.native_reference import Samples, as_file, native_finals
from tests.support.paths import ROOT

DOC = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
EXAMPLES = [
    pytest.param(example, id=f"{section.splitlines()[0]} {number}")
    for section in DOC.split("\n## ")[1:]
    for number, example in enumerate(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
]


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[RunningServer]:
    with running_server(recognizer, ServerSettings(vosk_port=0, wyoming_port=0)) as server:
        yield server


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_prints_the_transcript(
    example: str,
    server: RunningServer,
    brief: Callable[[str], Samples],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    for needed in re.findall(r"^(?:from|import) (openai|deepgram|wyoming|av)\b", example, re.MULTILINE):
        pytest.importorskip(needed, reason=f"the example needs {needed}, which is not installed")
    monkeypatch.chdir(tmp_path)
    Path("talk.wav").write_bytes(as_file(brief("george")))
    for documented, port in ((8765, server.port), (2700, server.vosk_port)):
        example = example.replace(f"127.0.0.1:{documented}", f"127.0.0.1:{port}")
    example = example.replace("10300", str(server.wyoming_port))
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(example, "example", "exec"), names)
    if "DeepgramClient" in names:  # which has no method to close its connections
        names["client"]._client_wrapper.httpx_client.httpx_client.close()
    printed = " ".join(capsys.readouterr().out.split())
    assert " ".join(final.text for final in native_finals(server, brief("george").tobytes())) in printed
