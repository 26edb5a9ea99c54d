"""`xlsr-live bench`: every command on small data; its output, files and errors."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from xlsr_live.client.bench import streams
from xlsr_live.client.bench.baselines import demo_loop
from xlsr_live.client.bench.group import bench
from xlsr_live.client.bench.load_test import server_level
from xlsr_live.client.bench.resources import ResourceMeter
from xlsr_live.client.bench.steps import StepSetting, greedy_text, offline_pass, run_steps
from xlsr_live.client.cli import run
from xlsr_live.server.run import running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.config import ModelOptions
from xlsr_live.streaming.ctc.assets import Assets
from xlsr_live.streaming.ctc.lm import LanguageModel, find
from xlsr_live.streaming.errors import ConfigError, ModelError
from xlsr_live.streaming.protocol.events import Final
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.fake_recognizer import FakeSession, Trouble
from tests.support.paths import DIGITS
from tests.support.wire import settles

Out = pytest.CaptureFixture[str]
Clip = Callable[[str], NDArray[np.int16]]


@pytest.fixture
def loaded(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands use the shared model of the test run."""

    class Shared:
        def __enter__(self) -> Recognizer:
            return recognizer

        def __exit__(self, *_: object) -> None:
            pass

    for command in ("accuracy", "compare", "load_test"):
        monkeypatch.setattr(f"xlsr_live.client.bench.{command}.load_recognizer", lambda *_, **__: Shared())


@pytest.fixture
def folder(tmp_path: Path, clip: Clip) -> Path:
    """A recording of two digits: an utterance every three seconds."""
    soundfile.write(tmp_path / "two.wav", clip("george")[:32_000], 16_000)
    (tmp_path / "two.txt").write_text("one two")
    return tmp_path


def written(out: str) -> dict[str, Path]:
    """The files that the output of a command lists, by name."""
    paths = [Path(line.removeprefix("written: ")) for line in out.splitlines() if line.startswith("written: ")]
    assert all(path.stat().st_size > 0 for path in paths)
    return {path.name: path for path in paths}


def report(files: dict[str, Path], name: str) -> Any:
    read = json.loads(files[f"{name}.json"].read_text())
    assert read["machine"]["cores"] >= 1
    assert read["versions"]["xlsr-live"]
    assert read["command"].startswith("xlsr-live")
    markdown = files[f"{name}.md"].read_text()
    for row in re.findall(r"^\|.*\|$", markdown, re.MULTILINE):
        assert row.count("|") >= 3
    return read


def png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


# --- commands


@pytest.mark.usefixtures("loaded")
def test_accuracy_reports_errors_stability_and_cost(folder: Path, capsys: Out):
    arguments = ["accuracy", str(folder), "--set", "480,480,4000", "--set", "200,0,1000", "--out", str(folder / "new")]
    assert run(["bench", *arguments]) == 0
    out = capsys.readouterr().out
    files = written(out)
    plots = {f"accuracy-{name}.png" for name in ("lookahead", "cost", "reliability")}
    assert set(files) == {"accuracy.md", "accuracy.json"} | plots
    assert all(png(files[name]) for name in plots)
    rows = report(files, "accuracy")["rows"]
    assert [(row["mode"], (row["setting_ms"] or {}).get("hop")) for row in rows] == [
        *((mode, hop) for hop in (480, 200) for mode in ("cached", "window")),
        ("offline", None),
    ]
    offline = rows[-1]
    assert offline["frames_as_offline"] == offline["passes_per_frame"] == 1
    for row in rows:
        assert row["final"] == offline["final"]  # the same second pass
        assert row["recordings"][0]["final"] == "ONE TWO"
        assert row["encoder_cpu_per_s"] > 0
        assert row["session_cpu_per_s"] > 0
        assert row["words"]["final"] == sum(row["calibration"]["finals"]["words"]) == 2
        assert 0 < row["calibration"]["finals"]["expected_error"] < 0.3  # both are right
        assert ("partials" in row["calibration"]) == (row is not offline)
    cached, window, narrow, _, _ = rows
    assert 1.5 < cached["passes_per_frame"] <= 2 < window["passes_per_frame"]
    assert narrow["passes_per_frame"] == 1  # no lookahead: nothing is encoded twice
    assert "ONE TWO" not in out  # texts are in the JSON
    assert "480, 480, 4000" in out
    assert "all text is upper case" in out


FOUR_WORDS = {"ONE": -0.6, "TWO": -0.8, "SIX": -0.7, "NINE": -2.0}  # log10 probabilities


@pytest.fixture
def searching(recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared model with a language model of four words."""
    lines = ["\\data\\", f"ngram 1={len(FOUR_WORDS) + 3}", "ngram 2=1", "", "\\1-grams:", "-3\t<unk>", "-99\t<s>\t0"]
    lines += ["-1\t</s>", *(f"{score}\t{word}\t0" for word, score in FOUR_WORDS.items())]
    path = tmp_path / "digits.arpa"
    path.write_text("\n".join([*lines, "", "\\2-grams:", "-0.5\t<s> ONE", "", "\\end\\", ""]))
    searching = copy(recognizer)
    searching.assets = Assets(language_model=LanguageModel(find(path), recognizer.encoder.vocabulary))
    monkeypatch.setattr("xlsr_live.client.bench.decoding.load_recognizer", lambda *_, **__: nullcontext(searching))


@pytest.mark.usefixtures("searching")
def test_decoding_reports_the_effect_of_a_language_model_and_hotwords(folder: Path, clip: Clip, capsys: Out):
    soundfile.write(folder / "noise.wav", np.zeros(32_000, np.int16), 16_000)
    (folder / "test.tsv").write_text("file\ttext\tset\ntwo.wav\tone two\ta\ntwo.wav\tsix nine\ta\nnoise.wav\t\tb\n")
    assert run(["bench", "decoding", str(folder / "test.tsv"), "--hotwords", "1", "--out", str(folder)]) == 0
    files = written(capsys.readouterr().out)
    assert png(files["decoding.png"])
    read = report(files, "decoding")
    assert [(row["said"], row["not_said"]) for row in read["hotwords"]] == [
        (["TWO"], ["NINE"]),
        (["NINE"], ["TWO"]),
        ([], ["TWO"]),
    ]
    assert len(read["sets"]["a"]) == len(read["sets"]["b"]) == 6
    for variant in read["sets"]["a"]:
        assert variant["texts"] == ["ONE TWO", "ONE TWO"]
        assert (variant["wer"], variant["rare_words_missed"], variant["rare_words"], variant["wer_elsewhere"]) == (
            0.5,
            1,
            2,
            0.5,
        )
        # the wrong reference of the second recording makes its distractor an insertion
        assert variant["hotwords_not_said"] == variant["way"].endswith("not said")
    assert "| b | greedy | words in 0 of 1 |  |" in (folder / "decoding.md").read_text()


@pytest.mark.usefixtures("loaded")
def test_compare_measures_all_modes(folder: Path, capsys: Out):
    arguments = ["--model", str(DIGITS), "--long", "10", "--chunk", "5,1,1", "--out", str(folder)]
    assert run(["bench", "compare", str(folder), *arguments]) == 0
    out = capsys.readouterr().out
    results = report(written(out), "compare")["results"]
    for result in results.values():
        names = [row["contender"] for row in result]
        assert names[0] == "cached"
        assert names[2:4] == ["window (5 s every 480 ms)", "loop of demos (5 s every 250 ms)"]
        assert all(row["cpu_per_s"] > 0 for row in result)
    short, long = results.values()
    pipeline, offline = short[-2], short[-1]
    assert pipeline["texts"] == offline["texts"] == ["ONE TWO"]  # one chunk: the pipeline is a whole pass
    assert long[0]["seconds"] == pytest.approx(10.0)
    assert long[-1]["wer"] < 0.2


@pytest.mark.usefixtures("loaded")
def test_latency_of_streams_in_this_process(folder: Path, capsys: Out, recognizer: Recognizer):
    arguments = ["--streams", "2", "--seconds", "5", "--warm-up", "0.5", "--out", str(folder), "--hop-ms", "240"]
    assert run(["bench", "latency", str(folder), *arguments, "--verify"]) == 0
    out = capsys.readouterr().out
    ((equal, total),) = re.findall(r"^(\d+) of (\d+) finals equal those of the same audio alone$", out, re.MULTILINE)
    assert int(equal) == int(total) >= 2
    assert png(written(out)["latency.png"])
    read = report(written(out), "latency")
    assert read["config"]["hop_ms"] == 240
    assert read["model"]["name"] == recognizer.info.name
    assert read["lm"] == "none"  # this model has no language model
    (trial,) = read["trials"]
    assert trial["plan"]["streams"] == 2
    seconds, load = trial["seconds"], trial["load"]
    assert seconds["shown"]["count"] == seconds["committed"]["count"] == seconds["final"]["count"] >= 2
    assert seconds["final_after_word"]["count"] >= 1
    for name in ("p50", "p95", "p99", "max"):
        assert 0 < seconds["shown"][name] <= seconds["committed"][name] <= seconds["final"][name]
        assert seconds["final_after_end"][name] < seconds["final_after_word"][name]
    assert load["cpu_s"] > 0
    assert load["cpu_s_per_stream_second"] == pytest.approx(load["cores"] / 2)


@pytest.mark.parametrize("command", ["latency", "capacity"])
def test_streams_have_the_language_model_of_a_server(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    loaded_options: list[ModelOptions] = []

    def load(options: ModelOptions) -> None:
        loaded_options.append(options)
        raise ModelError("enough")

    monkeypatch.setattr("xlsr_live.client.bench.load_test.load_recognizer", load)
    for given in ([], ["--lm", "none"]):
        assert run(["bench", command, str(folder), *given]) == 2
    assert [options.lm for options in loaded_options] == [None, "none"]
    assert loaded_options[0].model == "bundled"


def test_capacity_of_a_running_server(
    folder: Path, capsys: Out, recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
):
    arguments = ["--start", "1", "--most", "2", "--bound", "60", "--seconds", "4", "--warm-up", "0.5"]
    with running_server(recognizer, ServerSettings(max_sessions=1)) as server:

        def level(open_session: Any) -> int:
            found = server_level(open_session)
            assert settles(lambda: server.sessions.count, 0)  # else the server is full when the trial begins
            return found

        monkeypatch.setattr("xlsr_live.client.bench.load_test.server_level", level)
        target = ["--url", server.url, "--pid", str(os.getpid()), "--out", str(folder)]
        assert run(["bench", "capacity", str(folder), *arguments, *target]) == 0
    out, err = capsys.readouterr()
    assert "1 live streams with p95 of words shown under 60 s\n" in out
    held, refused = err.splitlines()
    assert held == "1 streams: held"
    assert "HTTP 503" in refused
    files = written(out)
    assert png(files["capacity.png"])
    read = report(files, "capacity")
    assert read["streams"] == 1
    one, two = read["trials"]
    assert one["problem"] is None
    assert one["load"]["cpu_s"] > 0
    assert "HTTP 503" in two["problem"]
    assert "model" not in read  # known only to the server


def test_bench_without_a_command_prints_its_help(capsys: Out):
    assert run(["bench"]) == 0
    overview = capsys.readouterr().out
    for name in bench.commands:
        assert f"\n  {name} " in overview
        assert run(["bench", name, "--help"]) == 0
        text = capsys.readouterr().out
        assert "Examples:" in text
        assert f"xlsr-live bench {name}" in text


# --- bad usage and bad input


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["accuracy", "nowhere"], "nowhere: no such file"),
        (["accuracy", "--set", "480,480"], "three numbers"),
        (["accuracy", "--set", "470,480,4000"], "multiple of 20 ms"),
        (["accuracy", "--mode", "cached,cubist"], "'cubist'"),
        (["accuracy", "--where", "set=x"], "--where"),
        (["accuracy", "--limit", "0"], "--limit"),
        (["compare", "--chunk", "4,2,2"], "longer than its two strides"),
        (["compare", "--chunk", "ten"], "three numbers"),
        (["latency", "--pid", "1"], "--pid"),
        (["latency", "--url", "ws://127.0.0.1:1/v1/stream", "--seconds", "1", "--warm-up", "0"], "nothing answers"),
        (["capacity", "--url", "ws://127.0.0.1:1/v1/stream", "--seconds", "1", "--warm-up", "0"], "nothing answers"),
        (["capacity", "--silence", "1"], "--silence"),
        (["capacity", "--hop-ms", "7"], "hop_ms"),
        (["speed"], "speed"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments: list[str], words: str, capsys: Out):
    assert run(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("xlsr-live: ")
    assert words in err


@pytest.mark.usefixtures("loaded")
def test_recordings_without_recognized_words_have_no_latency(tmp_path: Path, capsys: Out):
    soundfile.write(tmp_path / "hush.wav", np.zeros(16_000, np.int16), 16_000)
    (tmp_path / "hush.txt").write_text("what")
    assert run(["bench", "latency", str(tmp_path), "--streams", "1", "--seconds", "1", "--warm-up", "0"]) == 2
    assert "no words in the measured time" in capsys.readouterr().err


# --- the parts


@asynccontextmanager
async def opened(trouble: Trouble) -> AsyncGenerator[FakeSession]:
    yield FakeSession("fake", trouble)


def test_streams_that_never_end_are_reported_and_do_not_hang(monkeypatch: pytest.MonkeyPatch):
    plan, playlist = streams.TrialPlan(3, seconds=0.2, warm_up=0.2), streams.Playlist([np.ones(800, np.int16)], 0.5)

    def trial(trouble: Trouble) -> streams.Trial:
        return asyncio.run(streams.run_trial(plan, playlist, partial(opened, trouble), ResourceMeter(0)))

    healthy = trial("none")
    assert healthy.problem is None
    for log in healthy.streams:
        texts = [event.text for _, event in log.events if isinstance(event, Final)]
        assert int(texts[0]) >= 2 * 16_000 * 0.2  # bytes: a later start gives fewer, and all stop at the same time
        assert log.begun > 0
    with pytest.raises(ExceptionGroup):  # a bug is not a result
        trial("broken")
    monkeypatch.setattr(streams, "GRACE", 0.1)
    assert "overloaded" in str(trial("stuck").problem)


def test_one_step_over_the_whole_recording_is_the_offline_pass(recognizer: Recognizer, clip: Clip):
    samples = clip("jackson").astype(np.float32) / 32_768
    best = offline_pass(recognizer, samples)
    for mode in ("cached", "window"):
        run = run_steps(recognizer, mode, samples, StepSetting(30_000, 0, 0))
        assert run.encoded == len(run.rows) == len(best.rows)
        np.testing.assert_allclose(run.rows, best.rows, atol=2e-4)


def test_the_loop_of_demos_joins_its_windows_to_one_text(recognizer: Recognizer, clip: Clip):
    samples = np.tile(clip("george").astype(np.float32) / 32_768, 2)
    rows = demo_loop(recognizer, samples)
    # Windows begin at multiples of 250 ms, half a frame off every other time: a frame more or less now and then.
    assert abs(len(rows) - len(samples) / 320) < len(samples) / 4_000
    assert greedy_text(recognizer, rows).split() == 2 * ["ONE", "TWO", "NINE", "FOUR", "EIGHT", "ONE"]


def test_the_meter_reads_this_process_another_one_and_none():
    with pytest.raises(ConfigError, match="cannot read the CPU time"):
        ResourceMeter(2**30)
    own, same, none = ResourceMeter(), ResourceMeter(os.getpid()), ResourceMeter(0)
    for meter in (own, same, none):
        meter.start()
    sum(i * i for i in range(1_000_000))
    for meter in (own, same, none):
        meter.sample()
    spent = own.usage().cpu
    assert spent is not None
    assert spent > 0
    assert none.usage().cpu is None
    assert none.usage().cores is None
    assert same.usage().cpu == pytest.approx(spent, abs=0.05)
