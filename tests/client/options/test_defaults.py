"""Variables and the configuration file count for every command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from xlsr_live.client.cli import cli, run
from xlsr_live.client.options.defaults import default_map, known_names


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options that `transcribe` gets."""
    seen: dict[str, Any] = {}
    monkeypatch.setattr(cli.commands["transcribe"], "callback", lambda **options: seen.update(options))
    return seen


def test_an_option_overrides_a_variable_and_a_variable_overrides_the_file(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "settings.toml"
    file.write_text(
        'hop_ms = 320\npartials = false\nhotwords = ["one", "two"]\nport = 9\ndevice = "cpu"\nlookahead_ms = 240\n'
    )
    monkeypatch.setenv("XLSR_LIVE_CONFIG", str(file))
    monkeypatch.setenv("XLSR_LIVE_HANGOVER_MS", "900")
    monkeypatch.setenv("XLSR_LIVE_LOOKAHEAD_MS", "320")
    monkeypatch.setenv("XLSR_LIVE_HOP_MS", "400")
    assert run(["transcribe", "a.wav", "--hop-ms", "480"]) == 0
    assert (given["hop_ms"], given["lookahead_ms"], given["hangover_ms"]) == (480, 320, 900)
    assert (given["partials"], given["hotwords"], given["compute"]) == (False, ("one", "two"), "cpu")


@pytest.mark.parametrize("command", ["transcribe", "mic", "commands"])
def test_a_variable_has_the_name_that_the_help_shows_first(command: str):
    assert default_map(cli.commands[command], {"device": "cuda"}, {})["compute"] == "cuda"


def test_every_option_of_every_command_has_a_variable():
    def check(command: click.Command, found: dict[str, Any]) -> int:
        if isinstance(command, click.Group):
            return sum(check(each, found[name]) for name, each in command.commands.items())
        options = {option.name for option in command.params if isinstance(option, click.Option)}
        assert found.keys() == options - {"config"}
        return 1

    variables = {f"XLSR_LIVE_{name.upper()}": "1" for name in known_names(cli)}
    assert check(cli, default_map(cli, {}, variables)) > 10


@pytest.mark.parametrize(
    ("content", "variable", "words"),
    [
        ("hop_sm = 3", "", "no command has an option 'hop_sm'; did you mean 'hop_ms'?"),
        ("[hop_ms", "", "is not TOML"),
        ("", "soon", "from XLSR_LIVE_HOP_MS or the configuration file"),
    ],
)
def test_a_mistake_is_named(
    content: str,
    variable: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    (tmp_path / "settings.toml").write_text(content)
    monkeypatch.setenv("XLSR_LIVE_CONFIG", str(tmp_path / "settings.toml"))
    monkeypatch.setenv("XLSR_LIVE_HOP_MS", variable)
    assert run(["transcribe", "a.wav"]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_serve_ignores_the_settings_of_other_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "settings.toml").write_text("hop_ms = 320\nport = 9000\n")
    monkeypatch.setenv("XLSR_LIVE_CONFIG", str(tmp_path / "settings.toml"))
    monkeypatch.setenv("XLSR_LIVE_URL", "studio:8765")
    monkeypatch.setenv("XLSR_LIVE_OBS_PASSWORD", "secret")
    assert run(["serve", "--print-config"]) == 0
    assert "port = 9000" in capsys.readouterr().out
    monkeypatch.setenv("XLSR_LIVE_PROT", "9000")
    assert run(["serve", "--print-config"]) == 2
    assert "XLSR_LIVE_PROT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "offered"), [("xlsr-live tr", "transcribe"), ("xlsr-live mic --micro", "--microphone")]
)
def test_the_shell_completes(typed: str, offered: str):
    variables = {
        "_XLSR_LIVE_COMPLETE": "bash_complete",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", "from xlsr_live.client.cli import main; main()"],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == [f"plain,{offered}"]
