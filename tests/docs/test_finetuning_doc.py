"""docs/finetuning.md: its table and its first command work as written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile
from xlsr_live.client.cli import run

from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "finetuning.md").read_text(encoding="utf-8")


def blocks() -> list[str]:
    return re.findall(r"^```[a-z]*\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_table_of_the_page_passes_the_check_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (table,) = [block for block in blocks() if block.startswith("file\t")]
    (check,) = [block for block in blocks() if "--check" in block]
    monkeypatch.chdir(tmp_path)
    Path("train.tsv").write_text(table, encoding="utf-8")
    for line in table.splitlines()[1:]:
        file = Path(line.split("\t")[0])
        file.parent.mkdir(exist_ok=True)
        soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, 48_000), 16_000)
    program, *arguments = shlex.split(check)
    assert program == "xlsr-live"
    assert run(arguments) == 0
    told = capsys.readouterr().err
    assert "The vocabulary of the base is kept; case: upper" in told
    assert "Left out" not in told


def test_every_message_that_the_page_shows_is_one_of_the_program(tmp_path: Path):
    source = "".join(
        path.read_text(encoding="utf-8") for folder in ("training", "client") for path in (ROOT / folder).rglob("*.py")
    )
    (shown,) = [block for block in blocks() if block.startswith("Left out")]
    for line in shown.splitlines():
        beginning = re.split(r"\d", line)[0].removeprefix("Left out, ").rstrip(": (")
        assert beginning in source, line
