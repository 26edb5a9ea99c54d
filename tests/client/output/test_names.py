"""Names of output files."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
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
