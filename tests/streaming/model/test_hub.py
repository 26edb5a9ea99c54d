"""Names on the Hugging Face hub: pinned revisions from a cache in the hub's own layout, and an unreachable hub."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

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


@pytest.mark.parametrize(("status", "reason"), [(200, None), (404, None), (503, "HTTP 503")])
def test_a_hub_that_answers_is_reachable(monkeypatch: pytest.MonkeyPatch, status: int, reason: str | None):
    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.handle_request).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert hub.problem() == reason


def test_a_closed_port_gives_a_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "refused" in (hub.problem() or "")
