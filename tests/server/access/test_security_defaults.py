"""A second list of every default that matters for security: a change must be made here and in the docs too.

`test_security`, `test_access` and `sessions/test_limits` test their effects.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol
from xlsr_live.server.access import tickets
from xlsr_live.server.access.tickets import Tickets
from xlsr_live.server.access.tokens import Client
from xlsr_live.server.dialects import base
from xlsr_live.server.dialects.deepgram import live as deepgram
from xlsr_live.server.dialects.openai import keys as openai_keys
from xlsr_live.server.dialects.wyoming import packets
from xlsr_live.server.models import watchdog
from xlsr_live.server.models.models import Models
from xlsr_live.server.net import connections, sockets
from xlsr_live.server.run import running_server
from xlsr_live.server.sessions import resume_store, sharing
from xlsr_live.server.settings import ServerSettings
from xlsr_live.server.web import Server
from xlsr_live.streaming import config
from xlsr_live.streaming.audio import wav_stream
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.fake_recognizer import FakeRecognizer
from tests.support.paths import CLIPS, DIGITS, ROOT
from tests.support.serving import get, serving

DOC = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
SETTINGS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 8765,
    "tls_cert": None,
    "tls_key": None,
    "trusted_proxies": (),
    "origins": (),
    "vosk_port": None,
    "vosk_rate": 8_000,
    "wyoming_port": None,
    "wyoming_open": False,
    "token": None,
    "token_file": None,
    "tokens_file": None,
    "ticket_s": 30.0,
    "model": "bundled",
    "revision": None,
    "language": None,
    "allowed_languages": (),
    "lid": None,
    "device": "auto",
    "dtype": "auto",
    "threads": None,
    "lm": None,
    "calibration": None,
    "lm_partials": False,
    "punctuation_model": None,
    "translators": (),
    "translate_from": None,
    "translate_beams": 1,
    "translate_max_lag": 10.0,
    "replicas": 1,
    "max_replicas": None,
    "replica_cpus": 1.0,
    "replica_gpus": 0.0,
    "ray_dashboard": False,
    "fronts": 1,
    "max_sessions": "auto",
    "max_client_sessions": 0,
    "client_audio_s_per_minute": 0.0,
    "max_connections": 1_000,
    "max_message_bytes": 1 << 20,
    "max_upload_bytes": 25 << 20,
    "max_session_bytes": 4 << 30,
    "max_session_s": 21_600.0,
    "max_unread_events": 1_000,
    "max_viewers": 500,
    "idle_timeout_s": 60.0,
    "request_timeout_s": 10.0,
    "grace_s": 30.0,
    "move_s": 10.0,
    "resume_grace_s": 30.0,
    "stall_s": 60.0,
    "log_format": "text",
    "log_level": "info",
}
FIXED = {  # no setting changes these
    "a message may be so many times too large before it is cut off unread": (
        4,
        ServerSettings().hard_limit_bytes // ServerSettings().max_message_bytes,
    ),
    "unused tickets of one client": (100, tickets.MAX_PER_CLIENT),
    "ended sessions whose last events can be fetched": (1_000, resume_store.MOST_FINISHED),
    "bytes a second that an upload must have": (125_000, connections.MIN_UPLOAD_RATE),
    "seconds for the last word to a client that does not read": (5.0, base.LAST_ERROR_S),
    "seconds without audio, Deepgram's": (10.0, deepgram.SILENCE_S),
    "bytes of a header, Wyoming's": (1 << 16, packets.LONGEST_HEADER),
    "bytes of a header, WAV": (1 << 16, wav_stream.LONGEST_HEADER),
    "hotwords": ((100, 100, 2_000), (config.MOST_HOTWORDS, config.LONGEST_HOTWORD, config.MOST_CHARACTERS)),
    "seconds after its end in which a shared session can be read": (30.0, sharing.ENDED_S),
    "bytes of settings in an ephemeral key": (4_096, openai_keys.LARGEST),
    "probes that may fail before a model is given up": (18, watchdog.MAX_FAILED_PROBES),
    "rates and channels": ((8_000, 96_000, 32), (config.MIN_RATE, config.MAX_RATE, config.MAX_CHANNELS)),
}


def test_every_setting_has_the_default_listed_here():
    settings = ServerSettings()
    assert {name: getattr(settings, name) for name in settings.__struct_fields__} == SETTINGS


def test_the_documented_defaults_are_true():
    documented = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", DOC, re.MULTILINE))
    assert len(documented) >= 20
    assert documented == {name: _shown(SETTINGS[name]) for name in documented}


def _shown(value: Any) -> str:
    return "" if value in (None, ()) else f"{value:g}" if isinstance(value, float) else json.dumps(value).strip('"')


@pytest.mark.parametrize("name", FIXED)
def test_fixed_limits(name: str):
    wanted, found = FIXED[name]
    assert wanted == found


def test_secrets_cannot_be_guessed():
    """Tickets have 256 random bits, resume tokens and viewers' keys 192; the server stores digests of the first two."""
    tickets_ = Tickets(30)
    ticket = tickets_.issue(Client("alice"))
    assert ticket is not None
    assert len(ticket) == 43  # base64
    assert ticket not in repr(vars(tickets_))
    sessions = resume_store.ResumeStore(30)
    token = sessions.add(Client("alice"), object())  # type: ignore[arg-type]
    assert len(token) == 32
    assert token not in repr(vars(sessions))
    assert len(sharing.SharedSessions(1).open("").key) == 32


def test_the_system_closes_a_socket_whose_data_is_not_read():
    if sys.platform != "linux":
        pytest.skip("Linux only")
    with sockets.bind(ServerSettings(), 0) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


def test_the_configuration_of_uvicorn():
    """No compression, no access log (URLs contain tickets), no server name, no forwarded addresses, no more
    of a message than the hard limit; and our own limits on connections.
    """
    settings: Any = ServerSettings()
    models = Models(FakeRecognizer(), 60, borrowed=True)  # type: ignore[arg-type]
    none: Any = None
    server = Server(models, settings, none, load=none, reread=lambda: settings, limit=1, tls=None, wyoming=None)
    uvicorn = server.config
    assert (uvicorn.access_log, uvicorn.server_header, uvicorn.proxy_headers) == (False, False, False)
    assert uvicorn.ws_per_message_deflate is False
    assert uvicorn.ws_max_size == 4 << 20
    assert uvicorn.h11_max_incomplete_event_size == 16 << 10
    limits: Any = uvicorn.http
    assert issubclass(limits, H11Protocol)
    assert (limits.max_connections, limits.request_timeout_s, limits.upload_timeout_s) == (
        1_000,
        10.0,
        10.0 + (25 << 20) / 125_000,
    )


@pytest.mark.parametrize(("size", "status"), [(15 << 10, b"200"), (17 << 10, b"400")])
def test_the_head_of_a_request_is_limited(size: int, status: bytes):
    with serving() as server, socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nx: " + b"y" * size)
        if status == b"200":
            client.sendall(b"\r\n\r\n")
        assert client.recv(100).split()[1] == status


def test_code_in_the_folder_of_a_checkpoint_is_never_run(tmp_path: Path):
    """`auto_map` in its configuration would make transformers run the code."""
    folder, ran = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(DIGITS, folder)
    (folder / "theirs.py").write_text(f"open({str(ran)!r}, 'w')\nfrom transformers import *\nC = M = T = F = object\n")
    classes = {
        "config.json": {"AutoConfig": "theirs.C", "AutoModelForCTC": "theirs.M"},
        "preprocessor_config.json": {"AutoFeatureExtractor": "theirs.F"},
        "tokenizer_config.json": {"AutoTokenizer": ["theirs.T", None]},
    }
    for name, map_ in classes.items():
        file = folder / name
        content = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**content, "auto_map": map_, "trust_remote_code": True}))
    with Recognizer.load(str(folder), device="cpu", lm="none") as recognizer:
        assert recognizer.info.name == str(folder)
    assert not ran.exists()


def test_an_uploaded_file_leaves_nothing_on_disk(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made: list[str] = []
    make = tempfile.NamedTemporaryFile

    def watched(*arguments: Any, **named: Any) -> Any:
        file = make(*arguments, **named)
        made.append(file.name)
        return file

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", watched)
    clip = CLIPS / "george.flac"
    with running_server(recognizer) as server:
        url = f"http://127.0.0.1:{server.port}/v1/audio/transcriptions"
        answer = httpx.post(url, files={"file": clip.read_bytes()}, timeout=60)
        assert answer.status_code == 200
        assert get(server, "/readyz").json()["sessions"] == 0
    assert len(made) == 1
    assert not list(tmp_path.iterdir())
