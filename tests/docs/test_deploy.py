"""Every name in docs/deploy exists: commands, options, settings, files, build arguments, extras."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import yaml
from xlsr_live.client.cli import cli
from xlsr_live.server.configuration import FIELDS, NOT_SETTINGS, PREFIX
from xlsr_live.server.settings import ServerSettings

from tests.support.paths import ROOT
from tests.support.serving import serving

DEPLOY = ROOT / "docs" / "deploy"
DEFAULTS = ServerSettings()
STOPS_IN_S = DEFAULTS.grace_s + 10  # then close frames, uvicorn and the model


def lines(name: str) -> list[str]:
    """The lines of a file without comments; continued lines as one."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / name).read_text(), flags=re.MULTILINE)
    return [line for line in text.replace("\\\n", " ").splitlines() if line]


def unit() -> dict[str, str]:
    """The unit's entries: the last of each name, but all of Environment."""
    pairs = [line.split("=", 1) for line in lines("xlsr-live.service") if "=" in line]
    return dict(pairs) | {"Environment": " ".join(value for name, value in pairs if name == "Environment")}


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def dockerfile(instruction: str) -> list[str]:
    return [line.partition(" ")[2] for line in lines("Dockerfile") if line.startswith(instruction + " ")]


FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and path.name != "grafana.json")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_variable_is_a_setting(path: Path):
    known = {PREFIX + field.upper() for field in FIELDS} | NOT_SETTINGS
    assert set(re.findall(r"\bXLSR_LIVE_[A-Z_]+", path.read_text())) <= known


def test_every_command_and_option_exists():
    command = unit()["ExecStart"].split()
    assert Path(command[0]).name == "xlsr-live"
    options = {option for each in cli.commands[command[1]].params for option in each.opts}
    assert {word for word in command if word.startswith("--")} <= options
    (entry,) = map(yaml.safe_load, dockerfile("ENTRYPOINT"))
    assert entry[0] == "xlsr-live"
    assert entry[1] in cli.commands


def test_the_unit():
    entries = unit()
    credential = entries["LoadCredential"].partition(":")[0]
    assert f"XLSR_LIVE_TOKEN_FILE=%d/{credential}" in entries["Environment"].split()
    assert float(entries["TimeoutStopSec"]) > STOPS_IN_S
    assert int(entries["LimitNOFILE"]) > 2 * DEFAULTS.max_connections
    assert entries["Type"] == "notify"  # `tests/server/models/test_reload.py` receives it


def test_the_image_copies_existing_files():
    included = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    copied = {source for line in dockerfile("COPY") for source in line.split()[:-1]}
    assert copied == included
    assert all((ROOT / source).exists() for source in copied)
    (extras,) = re.findall(r"/src\[([\w,]+)\]", (DEPLOY / "Dockerfile").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras.split(",")) == {"server", "lm", "containers"} <= set(project["optional-dependencies"])
    assert dockerfile("EXPOSE") == [str(DEFAULTS.port)]


def test_compose_agrees_with_the_other_files():
    services, port = compose()["services"], DEFAULTS.port
    server, prometheus = services["xlsr-live"], services["prometheus"]
    build = server["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")
    assert set(build["args"]) == {line.partition("=")[0] for line in dockerfile("ARG")}
    assert float(server["stop_grace_period"].removesuffix("s")) > STOPS_IN_S
    assert server["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert server["volumes"] == [f"{next(iter(compose()['volumes']))}:{dockerfile('VOLUME')[0]}"]
    (secret,) = compose()["secrets"].values()
    assert f"docs/deploy/{secret['file'].removeprefix('./')}" in (ROOT / ".gitignore").read_text().splitlines()
    (mounted,) = prometheus["volumes"]
    assert (DEPLOY / mounted.partition(":")[0]).is_file()
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"xlsr-live:{port}"]}]
    assert job["authorization"]["credentials_file"] == server["environment"]["XLSR_LIVE_TOKEN_FILE"]


def test_the_health_check(certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch):
    def check() -> None:
        runpy.run_path(str(DEPLOY / "healthcheck.py"))

    with serving() as server:
        monkeypatch.setenv("XLSR_LIVE_PORT", str(server.port))
        check()
    with pytest.raises(URLError):
        check()
    cert, key = certificate
    with serving(tls_cert=cert, tls_key=key) as server:
        for name, value in {"PORT": str(server.port), "TLS_CERT": cert, "TLS_KEY": key}.items():
            monkeypatch.setenv(f"XLSR_LIVE_{name}", value)
        check()
