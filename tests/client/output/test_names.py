"""Names of output files."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from xlsr_live.client.options.defaults import default_map
from xlsr_live.client.output.formats import FORMATS
from xlsr_live.client.output.names import dated, unused
from xlsr_live.client.output.options import OutputOptions, output_options


def test_only_these_letters_are_the_time():
    now = datetime(2026, 11, 30, 9, 5, 7)
    assert dated(Path("%Y/%Y-%m-%d-%H%M%S 100% %q.vtt"), now) == Path("2026/2026-11-30-090507 100% %q.vtt")


def test_what_has_no_content_may_be_replaced(tmp_path: Path):
    empty = tmp_path / "empty.srt"
    empty.touch()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (empty, pipe, tmp_path / "missing.srt", Path("/dev/stdout")):
        assert unused(path, overwrite=False) == path


@pytest.mark.parametrize("flags", [[], ["--format", "vtt"], ["--plain"]])
@pytest.mark.parametrize("name", ["a.srt", "a.VTT", "a.json", "a.jsonl", "a.txt", "a.srt.bak", "a", "folder.srt/a"])
def test_the_suffix_of_the_output_is_the_format_and_no_option_may_contradict_it(name: str, flags: list[str]):
    @click.command
    @output_options("text")
    def command(output: OutputOptions, **_: Any) -> None:
        click.echo(str(output.form))

    result = CliRunner().invoke(command, ["--output", name, *flags])
    suffix = name.rpartition("/")[2].lower().partition(".")[2].replace("txt", "text")
    by_suffix = suffix if suffix in FORMATS else None
    named = flags[-1].lstrip("-") if flags else None
    if named and by_suffix and named != by_suffix and (named, by_suffix) != ("plain", "text"):
        assert result.exit_code == 2
        assert f"stands for the format {by_suffix}, not {named}" in result.output
    else:
        assert result.output == f"{named or by_suffix}\n"


def test_the_suffix_overrides_a_format_of_the_configuration():
    @click.command
    @output_options("text")
    def command(output: OutputOptions, **_: Any) -> None:
        click.echo(str(output.form))

    for values in ({"form": "jsonl"}, {"plain": True}):
        result = CliRunner().invoke(command, ["--output", "talk.srt"], default_map=values)
        assert result.output == "srt\n"
    result = CliRunner().invoke(command, ["--output", "talk.srt", "--plain"])
    assert "leave --plain out" in result.output


@click.command
@output_options("text")
def shown(output: OutputOptions, **_: Any) -> None:
    click.echo(f"{output.form} {output.path}")


@pytest.mark.parametrize(
    ("file", "variables", "arguments", "expected"),
    [
        ({"format": "srt"}, {}, ["--plain"], "plain None"),
        ({"plain": True}, {}, ["-f", "srt"], "srt None"),
        ({}, {"PLAIN": "1"}, ["-f", "srt"], "srt None"),
        ({"format": "srt"}, {"PLAIN": "1"}, [], "plain None"),
        ({"plain": True}, {"FORMAT": "srt"}, [], "srt None"),
        ({"plain": True, "format": "srt"}, {}, [], "use --plain or --format srt, not both"),
        ({}, {"OUTPUT": "zz.txt"}, ["-f", "json"], "json zz.txt"),
        ({}, {"OUTPUT": "zz.txt"}, ["--plain"], "plain zz.txt"),
        ({"format": "json"}, {"OUTPUT": "zz.srt"}, [], "srt zz.srt"),
        ({"output": "zz.srt"}, {"FORMAT": "json"}, [], "json zz.srt"),
        ({}, {"FORMAT": "json", "OUTPUT": "zz.srt"}, [], "--output zz.srt stands for the format srt, not json"),
        ({"plain": True}, {}, ["-f", "plain", "-o", "zz.srt"], "--output zz.srt stands for the format srt, not plain"),
        ({"per_language": True}, {}, [], "None None"),
        ({"per_language": True}, {}, ["-f", "vtt"], "vtt None"),
        ({}, {"PER_LANGUAGE": "1"}, ["-o", "zz.json"], "json zz.json"),
    ],
)
def test_an_argument_overrides_a_variable_that_contradicts_it_and_a_variable_the_file(
    file: dict[str, Any],
    variables: dict[str, str],
    arguments: list[str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
):
    environment = {f"XLSR_LIVE_{name}": value for name, value in variables.items()}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(shown, arguments, default_map=default_map(shown, file, environment))
    assert expected in result.output
    assert (result.exit_code == 2) == ("--" in expected)
