"""Names on the Hugging Face hub: pinned revisions from a cache in the hub's own layout, and an unreachable hub."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from xlsr_live.streaming.model import hub

from tests.support.paths import DIGITS

REVISIONS = ("a" * 40, "b" * 40)
LOAD = """
import sys
from xlsr_live.streaming import ModelError
from xlsr_live.streaming import Recognizer
try:
    with Recognizer.load(sys.argv[1], revision=sys.argv[2] or None) as recognizer:
        print(recognizer.info.name, recognizer.info.vocabulary)
except ModelError as error:
    print("refused:", error)
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache that holds owner/digits in its main revision, as `huggingface_hub` leaves it after a download."""
    repository = tmp_path / "models--owner--digits"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISIONS[0])
    shutil.copytree(DIGITS, repository / "snapshots" / REVISIONS[0])
    return tmp_path


def load(cache: Path, name: str, revision: str = "", **environment: str) -> tuple[str, str]:
    """Standard output and error of a new process, because the hub library reads its settings once."""
    settings = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_ENDPOINT": "http://127.0.0.1:9", **environment}
    settings.pop("HF_HUB_OFFLINE", None) if "HF_HUB_OFFLINE" not in environment else None
    run = subprocess.run(
        [sys.executable, "-c", LOAD, name, revision], env=settings, capture_output=True, text=True, check=True
    )
    return run.stdout.strip(), run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["unreachable", "offline"])
def test_a_downloaded_model_needs_no_hub(cache: Path, environment: dict[str, str]):
    assert load(cache, "owner/digits", **environment) == ("owner/digits 20", "")


@pytest.mark.slow
def test_a_pinned_revision_loads_only_that_revision(cache: Path):
    assert load(cache, "owner/digits", REVISIONS[0])[0] == "owner/digits 20"
    output, _ = load(cache, "owner/digits", REVISIONS[1])
    assert output.startswith("refused: owner/digits is not in the local cache")


@pytest.mark.slow
def test_an_unreachable_hub_is_one_clear_sentence_at_once(cache: Path):
    output, noise = load(cache, "owner/other")
    assert output == (
        "refused: owner/other is not in the local cache and the Hugging Face hub cannot be reached. "
        "Connect once to download it, or give a local directory"
    )
    assert not noise


class Hub(http.server.BaseHTTPRequestHandler):
    """The hub's answers about owner/digits. Its files are those of the digits model, and some that nobody needs."""

    files: ClassVar[dict[str, bytes]] = {
        **{file.name: file.read_bytes() for file in DIGITS.iterdir() if file.is_file()},
        "pytorch_model.bin": b"x" * 1_000,
        "adapter.eng.safetensors": b"x" * 1_000,
        "README.md": b"x" * 1_000,
    }
    fetched: ClassVar[list[str]] = []
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        if path == "/":
            return self.reply(b"", body)
        if path in ("/api/models/owner/digits", "/api/models/owner/digits/revision/main"):
            siblings = [{"rfilename": name, "size": len(content)} for name, content in self.files.items()]
            about = {"id": "owner/digits", "modelId": "owner/digits", "sha": REVISIONS[0], "siblings": siblings}
            return self.reply(json.dumps(about).encode(), body)
        name = path.rpartition("/")[2]
        if not path.startswith("/owner/digits/resolve/") or name not in self.files:
            return self.reply(b"", body, status=404, headers={"X-Error-Code": "EntryNotFound"})
        if body:
            self.fetched.append(name)
        content = self.files[name]
        tag = f'"{hashlib.sha1(content).hexdigest()}"'
        return self.reply(content, body, headers={"ETag": tag, "X-Repo-Commit": REVISIONS[0]})

    def reply(self, content: bytes, body: bool, status: int = 200, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


DOWNLOAD = """
from xlsr_live.streaming import ModelOptions, Recognizer
from xlsr_live.streaming.model import hub
hub.PATIENCE = 60.0
with Recognizer.from_options(ModelOptions("owner/digits"), report=lambda p: print(p.stage, p.done, p.total)):
    import sys
    print("transformers" in sys.modules)
"""


@pytest.mark.slow
def test_a_download_reports_its_bytes_and_fetches_only_what_loading_needs(tmp_path: Path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        settings = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": address, "no_proxy": "127.0.0.1"}
        settings |= {"HF_HUB_ETAG_TIMEOUT": "60", "HF_HUB_DOWNLOAD_TIMEOUT": "60"}
        for start in range(2):
            Hub.fetched.clear()
            run = subprocess.run(
                [sys.executable, "-c", DOWNLOAD], env=settings, capture_output=True, text=True, check=False, timeout=90
            )
            assert run.returncode == 0, run.stderr
            lines = [line.split(" ") for line in run.stdout.splitlines()]
            assert lines[-2:] == [["loading", "0", "0"], ["False"]]  # without transformers
            lines.pop()
            if start:  # everything is in the cache
                assert (len(lines), Hub.fetched) == (1, [])
                continue
            done = [int(line[1]) for line in lines[:-1]]
            needed = {name for name in Hub.files if name.endswith(".json") or name == "model.safetensors"}
            assert {line[0] for line in lines[:-1]} == {"downloading"}
            assert done[0] == 0
            assert done == sorted(done)
            assert {int(line[2]) for line in lines[:-1]} == {done[-1]} == {sum(len(Hub.files[name]) for name in needed)}
            assert set(Hub.fetched) == needed
        server.shutdown()


@pytest.mark.parametrize(("status", "reason"), [(200, None), (404, None), (503, "HTTP 503")])
def test_a_hub_that_answers_is_reachable(monkeypatch: pytest.MonkeyPatch, status: int, reason: str | None):
    class Other(Hub):
        def do_HEAD(self):
            self.reply(b"", body=False, status=status)

    monkeypatch.setattr(hub, "PATIENCE", 60.0)
    with http.server.HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.handle_request).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert hub.problem() == reason


def test_a_closed_port_gives_a_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "refused" in (hub.problem() or "")
