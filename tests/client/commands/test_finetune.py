"""`xlsr-live finetune` from a table to a model that serves, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from xlsr_live.client.cli import run
from xlsr_live.client.commands.finetune import finetune
from xlsr_live.streaming.ctc.calibration import load_calibration
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.checkpoints import SMALL, SPECIAL, publish
from tests.support.paths import SPEECH
from tests.support.speech import needs_speech
from tests.support.spoken_tables import WORDS, write_table

TINY = SMALL | {"num_conv_pos_embedding_groups": 2, "hidden_dropout": 0.0, "activation_dropout": 0.0}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("base") / "ctc", TINY, (*SPECIAL, "|", *"ABCDEF"))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("speech"))


def command(base: Path, table: Path, out: Path, *more: str) -> list[str]:
    given = ["finetune", str(base), "--data", str(table), "--out", str(out), "--device", "cpu", "--batch-seconds", "12"]
    return [*given, *more]


# Sends itself a signal after the first line that begins so: while a test reads the line, the training would go on.
SIGNALLED = """
import os, re, sys
import click
from xlsr_live.client.cli import main
number, line, *arguments = sys.argv[1:]
echo = click.echo
def echo_and_kill(message="", **options):
    echo(message, **options)
    if re.match(line, message):
        os.kill(os.getpid(), int(number))
click.echo = echo_and_kill
main(arguments)
"""


def signalled(arguments: list[str], number: signal.Signals, line: str) -> tuple[int, str]:
    """The status of a command that gets a signal after this line, and its messages."""
    command = [sys.executable, "-c", SIGNALLED, str(int(number)), line, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_one_command_makes_a_model_with_everything_that_serving_needs(
    base: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "mine"
    assert run(command(base, table, out, "--steps", "4", "--ngram", "--data-licence", "CC0-1.0")) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == f"Serve it:  xlsr-live serve --model {out}"
    assert "Held out for validation: " in printed.err
    card = (out / "README.md").read_text(encoding="utf-8")
    for part in (
        "Data: CC0-1.0",
        "| base (",
        "| fine-tuned, finals with its n-gram |",
        "![Loss",
        "| method | full |",
        "xlsr-live serve",
    ):
        assert part in card
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "Not calibrated: " in printed.err  # four words say nothing
    assert len((out / ".training" / "history.jsonl").read_text().splitlines()) > 2
    with Recognizer.load(str(out), device="cpu") as recognizer:
        assert recognizer.assets.language_model.words == len(WORDS)
        assert recognizer.info.modes[0] == "cached"
    assert run(command(base, table, out, "--steps", "4")) == 0  # finished: nothing is trained again
    assert run(["transcribe", str(table.parent / "table-000.wav"), "--model", str(out)]) == 0


def test_a_run_that_is_stopped_and_then_killed_continues_to_the_same_bits(base: Path, table: Path, tmp_path: Path):
    assert run(command(base, table, tmp_path / "whole", "--steps", "12")) == 0
    arguments = command(base, table, tmp_path / "cut", "--steps", "12")
    history = tmp_path / "cut" / ".training" / "history.jsonl"
    status, said = signalled(arguments, signal.SIGINT, "step 0,")
    assert status == 130
    assert "Stops after this update or evaluation and saves" in said
    assert re.search(r"^Stopped at step [1-9]\d*; the same command continues\.$", said, re.MULTILINE)
    assert (tmp_path / "cut" / ".training" / "state.pt").exists()
    assert signalled(arguments, signal.SIGKILL, "step [1-9]")[0] == -signal.SIGKILL
    assert history.exists()
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    assert run(arguments) == 0
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]


def test_check_only_looks(base: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with table.open("a", encoding="utf-8") as lines:
        lines.write("table-001.wav\t\tnobody\n")
    assert run(command(base, table, tmp_path / "out", "--check")) == 0
    told = capsys.readouterr().err
    assert "Left out, without text" in told
    assert "The vocabulary of the base is kept" in told
    assert not (tmp_path / "out" / "config.json").exists()


def test_every_kind_of_bad_data_has_its_sentence_before_any_step(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    table = write_table(tmp_path / "speech")
    folder, draw = table.parent, np.random.default_rng(0)
    (folder / "broken.wav").write_bytes(b"RIFF of nothing")
    soundfile.write(folder / "stereo.wav", draw.normal(0, 0.1, (16_000, 2)), 16_000)
    soundfile.write(folder / "phone.wav", draw.normal(0, 0.1, 8_000), 8_000)
    soundfile.write(folder / "frame.wav", draw.normal(0, 0.1, 400), 16_000)
    soundfile.write(folder / "fine.wav", draw.normal(0, 0.1, 16_000), 16_000)
    for name in ("lower", "empty", "digits", "emoji", "hebrew"):
        shutil.copyfile(folder / "fine.wav", folder / f"{name}.wav")
    bad = {
        "broken.wav": ("ABE", "Left out, unreadable: 1 recording (broken.wav: "),
        "stereo.wav": ("ABE", "Mixed to one channel: 1 recording."),
        "phone.wav": ("ABE", "Resampled to 16,000 Hz: 1 recording of 8000 Hz; nothing above 4 kHz is in them."),
        "frame.wav": ("ABE", "Left out, too short for the text: 1 recording (frame.wav)."),
        "lower.wav": ("abe", "such as 'abe' as 'ABE'."),
        "empty.wav": ("", "Left out, without text (those without speech are for --noise): 1 recording (empty.wav)."),
        "digits.wav": ("ABE 12", "Left out, digits in the text (write numbers as they are said): 1 recording (digits"),
        "emoji.wav": ("ABE \N{GRINNING FACE}", "Removed from texts, as nobody says them: \N{GRINNING FACE}"),
        "hebrew.wav": ("\u05e9\u05dc", "Left out, characters that the vocabulary lacks: 1 recording (hebrew.wav: "),
    }
    with table.open("a", encoding="utf-8") as lines:
        lines.writelines(f"{name}\t{text}\ttable1\n" for name, (text, _) in bad.items())
    held = write_table(folder, 6, 3, name="held")
    held.write_text(held.read_text(encoding="utf-8").replace("held1", "table1"), encoding="utf-8")
    arguments = command(base, table, tmp_path / "out", "--validation", str(held), "--check")
    assert run(arguments) == 0
    told = capsys.readouterr().err
    for _, sentence in bad.values():
        assert sentence in told
    assert "Leaking: both tables have 1 speaker (table1), so validation has fewer errors" in told
    assert "right to left" in told
    assert "step" not in told


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--adapter", "deu", "--lora"], "--adapter trains an adapter"),
        (["--adapter", "deu"], "no language adapters"),
        (["--minutes", "0"], "--minutes"),
    ],
)
def test_bad_usage_is_one_line(
    more: list[str], message: str, base: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(command(base, table, tmp_path / "out", *more)) == 2
    assert message in capsys.readouterr().err


def test_the_help_teaches():
    text = CliRunner().invoke(finetune, ["--help"]).output
    for part in ("bundled --data", "--adapter deu", "columns file and text", "Ctrl-C saves", "docs/finetuning.md"):
        assert part in text


@pytest.mark.slow
@needs_speech
def test_the_packaged_model_is_adapted_measured_and_calibrated(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [row for row in (SPEECH / "test.tsv").read_text(encoding="utf-8").splitlines() if row.startswith("an4/")]
    table = tmp_path / "an4.tsv"
    lines = ["file\ttext\tspeaker"]
    for row in rows[::9]:
        file, _, speaker, _, text = row.split("\t")
        lines.append(f"{SPEECH / file}\t{text}\t{speaker}")
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    out = tmp_path / "mine"
    held = ["--validation", str(table), "--steps", "1", "--batch-seconds", "8"]
    assert run(["finetune", "bundled", "--data", str(table), "--out", str(out), "--device", "cpu", *held]) == 0
    told = capsys.readouterr().err
    assert "Leaking: both tables have " in told
    assert load_calibration(out) is not None
    card = (out / "README.md").read_text(encoding="utf-8")
    rates = [float(rate) for rate in re.findall(r"\| (\d+\.\d) \(", card)]
    assert len(rates) == 6  # base and result: offline, live, finals
    assert max(rates) < 50


@pytest.mark.slow
def test_two_processes_train_one_model(base: Path, table: Path, tmp_path: Path):
    """As on two GPUs, here with two CPU processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launch += ["-m", "xlsr_live.client.cli"]
    done = subprocess.run(
        [*launch, *command(base, table, tmp_path / "out", "--steps", "3", "--threads", "1")],
        capture_output=True,
        text=True,
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Serve it:") == 1
    rows = [json.loads(line) for line in (tmp_path / "out" / ".training" / "history.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 3
    assert rows[-1]["audio_hours"] > 0
