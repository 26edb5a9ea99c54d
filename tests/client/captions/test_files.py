"""`--captions FILE`: third-party parsers can read the file at any moment, and no caption is lost."""

from __future__ import annotations

import gc
import json
import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import click
import msgspec
import numpy as np
import pytest
import soundfile
import webvtt
from numpy.typing import NDArray
from xlsr_live.client.captions.files import AppendedFile, ReplacedFile
from xlsr_live.client.captions.rollup import RollUp
from xlsr_live.client.captions.targets import caption_output
from xlsr_live.client.output.formats import Output
from xlsr_live.streaming.captions.cues import GAP, LINE_CHARS, LINES, LONGEST, SHORTEST, SPEED
from xlsr_live.streaming.errors import XlsrLiveError
from xlsr_live.streaming.protocol.events import (
    Event,
    Final,
    Partial,
    SessionEnded,
    SessionStarted,
    SpeechEnded,
    SpeechStarted,
    Warning,
    Word,
    from_json,
)
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.paths import SPEECH

LONGFORM = SPEECH / "longform" / "26-496.flac"


def utterance(text: str, start: float, index: int = 0) -> list[Event]:
    words = tuple(Word(w, start + 0.4 * n, start + 0.4 * n + 0.3, 0.9) for n, w in enumerate(text.split()))
    end = words[-1].end + 0.3
    half = words[: len(words) // 2]
    committed = " ".join(word.word for word in half)
    return [
        SpeechStarted(utterance=index, start=start),
        Partial(utterance=index, committed=committed, volatile="AND", words=half, audio_s=end, lag_ms=1.0),
        Final(utterance=index, text=text, words=words, start=start, end=end, confidence=0.9),
        SpeechEnded(utterance=index, end=end, reason="silence"),
    ]


SESSION: list[Event] = [
    SessionStarted(session="s", model="digits", mode="window"),
    *utterance("ONE TWO & THREE --> FOUR", 0.5),
    Warning(code="degraded", message="fewer partials"),
    *utterance("SEVENTEEN " * 20, 6.0, 1),
    SessionEnded(audio_s=30.0, utterances=2),
]


@pytest.fixture
def captions(tmp_path: Path) -> Iterator[Callable[[str], tuple[Path, Output]]]:
    with ExitStack() as stack:

        def open_(name: str) -> tuple[Path, Output]:
            output = stack.enter_context(caption_output(str(tmp_path / name), early=False))
            output.begin("talk.wav")
            return tmp_path / name, output

        yield open_


@pytest.mark.parametrize("name", ["talk.vtt", "talk.srt", "talk.jsonl"])
def test_a_run_that_fails_before_its_session_leaves_the_name_free(name: str, tmp_path: Path):
    with pytest.raises(XlsrLiveError), caption_output(str(tmp_path / name), early=False):
        raise XlsrLiveError("there is no such model")
    with caption_output(str(tmp_path / name), early=False) as output:
        output.begin("talk.wav")
        for event in SESSION:
            output.show(event)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert "SEVENTEEN" in (tmp_path / name).read_text()


def read(path: Path) -> list[webvtt.Caption]:
    """Cues by webvtt-py, which reads both formats but rejects an empty file, the SubRip file without cues."""
    if path.suffix == ".srt" and not path.stat().st_size:
        return []
    return (webvtt.read if path.suffix == ".vtt" else webvtt.from_srt)(path).captions


def check_guidelines(found: list[webvtt.Caption]) -> None:
    free = 0.0
    for caption in found:
        assert len(caption.lines) <= LINES
        assert max(map(len, caption.lines)) <= LINE_CHARS
        start, end = _seconds(caption.start), _seconds(caption.end)
        assert SHORTEST - 0.002 <= end - start <= LONGEST + 0.002
        assert start >= free - 0.002
        assert len(" ".join(caption.lines)) / (end - start) <= SPEED + 0.2
        free = end + GAP


def _seconds(clock: str) -> float:
    hours, minutes, seconds = clock.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


def check_all_along(path: Path, output: Output, events: list[Event]) -> list[webvtt.Caption]:
    """Parse after every event: earlier cues stay, and the words of all finals so far are present."""
    words: list[str] = []
    before: list[str] = []
    found: list[webvtt.Caption] = []
    for event in events:
        output.show(event)
        found = read(path)
        texts = [f"{one.start} {one.end} {one.text}" for one in found]
        assert texts[: len(before)] == before
        before = texts
        if isinstance(event, Final):
            words += [word.word for word in event.words]
        assert " ".join(one.text.replace("\n", " ") for one in found).split() == words
    return found


@pytest.mark.parametrize("name", ["out.vtt", "out.srt"])
def test_subtitles_are_whole_after_every_event(name: str, captions: Callable[[str], tuple[Path, Output]]):
    path, output = captions(name)
    assert read(path) == []
    events = [e for e in SESSION if not (isinstance(e, Final) and "&" in e.text)]  # test_formats covers escapes
    assert len(check_all_along(path, output, events)) >= 2
    assert os.listdir(path.parent) == [name]


def test_cues_name_their_language(tmp_path: Path):
    """The header has that of the first cue, early cues too; a cue in another language has a span."""
    path = tmp_path / "out.vtt"
    with caption_output(str(path), early=True) as output:
        output.begin("talk.wav")
        assert read(path) == []  # and it parses
        for number, code in enumerate(["cmn-script_simplified", "cmn-script_simplified", "eng", "zzz9"]):
            for event in utterance("ONE " * 40, 20.0 * number, number):
                spoken = isinstance(event, Partial | Final)
                output.show(msgspec.structs.replace(event, language=code) if spoken else event)
    text = path.read_text()
    assert text.startswith("WEBVTT\nLanguage: zh-Hans\n\n00:00")
    cues = text.split("\n\n")[1:-1]
    spans = [cue.partition("\n")[2].startswith("<lang en>") and cue.endswith("</lang>") for cue in cues]
    assert any(spans)
    assert not all(spans)
    assert text.count("<lang") == sum(spans)
    assert " ".join(cue.text.replace("\n", " ") for cue in read(path)).split() == ["ONE"] * 160


@pytest.mark.skipif(not LONGFORM.is_file(), reason="the speech collection ../shared/speech is not here")
def test_guidelines_hold_on_continuous_speech(
    packaged: Recognizer, captions: Callable[[str], tuple[Path, Output]]
) -> None:
    samples, _ = soundfile.read(LONGFORM, frames=20 * 16_000, dtype="float32")
    path, output = captions("out.vtt")
    found = check_all_along(path, output, list(packaged.stream(samples)))
    assert len(found) >= 3
    check_guidelines(found)


def test_guidelines_hold_on_a_clip_of_the_tests(
    recognizer: Recognizer, clip: Callable[[str], NDArray[np.int16]], captions: Callable[[str], tuple[Path, Output]]
):
    path, output = captions("out.srt")
    audio = np.tile(np.concatenate([clip("george"), np.zeros(16_000, np.int16)]), 2).astype(np.float32) / 32_768
    found = check_all_along(path, output, list(recognizer.stream(audio)))
    assert len(found) >= 2
    check_guidelines(found)


def test_the_text_file_has_the_last_two_lines_and_committed_words_at_once(
    captions: Callable[[str], tuple[Path, Output]],
):
    path, output = captions("obs.txt")
    seen: list[str] = []
    for event in SESSION:
        output.show(event)
        seen.append(path.read_text())
    seventeen = " ".join(["SEVENTEEN"] * 4)
    assert list(dict.fromkeys(seen)) == [
        "",
        "ONE TWO &",
        "ONE TWO & THREE --> FOUR",
        f"{seventeen}\nSEVENTEEN SEVENTEEN",
        f"{seventeen}\n{seventeen}",
    ]


def test_an_utterance_of_noise_leaves_the_text_file_as_it_was(captions: Callable[[str], tuple[Path, Output]]):
    path, output = captions("obs.txt")
    for event in [*SESSION[:5], *utterance("UH WELL", 9.0, 1)[:2]]:
        output.show(event)
    assert path.read_text() == "ONE TWO & THREE --> FOUR\nUH"
    output.show(SpeechEnded(utterance=1, end=10.0, reason="silence"))
    assert path.read_text() == "ONE TWO & THREE --> FOUR"


def test_the_text_file_is_empty_some_seconds_after_the_last_text_and_at_the_end(tmp_path: Path):
    class Alarm(threading.Timer):
        """A timer that the test fires."""

        def start(self) -> None:
            assert self.daemon
            set_.append(self)

    set_: list[Alarm] = []
    path = tmp_path / "obs.txt"
    with ReplacedFile(path) as file, RollUp(file, alarm=Alarm) as output:
        for event in SESSION[:5]:
            output.show(event)
        late, now = set_  # one for each text
        assert now.interval == 8.0
        assert late.finished.is_set()  # cancelled
        late.function()  # it had already fired when it was cancelled
        assert path.read_text() == "ONE TWO & THREE --> FOUR"
        now.function()
        assert path.read_text() == ""
        output.show(SpeechEnded(utterance=0, end=2.5, reason="silence"))
        assert path.read_text() == ""
        for event in utterance("FIVE SIX", 15.0, 1):
            output.show(event)
        assert path.read_text() == "FIVE SIX"
    assert path.read_text() == ""
    assert set_[-1].finished.is_set()


def test_json_lines_are_the_events(captions: Callable[[str], tuple[Path, Output]], capsys: pytest.CaptureFixture[str]):
    path, output = captions("out.jsonl")
    for number, event in enumerate(SESSION, 1):
        output.show(event)
        assert [from_json(line) for line in path.read_text().splitlines()] == SESSION[:number]
    assert json.loads(path.read_text().splitlines()[0])["type"] == "session_started"
    assert capsys.readouterr().err == ""  # the warning appears once per output


@pytest.mark.parametrize("kind", [ReplacedFile, AppendedFile])
def test_a_failing_disk_is_reported_once_and_the_file_is_complete_in_the_end(
    kind: type[ReplacedFile] | type[AppendedFile],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with kind(tmp_path / "out") as file:
        file.write("one\n")
        file.flush()
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (6, hard))  # there is room for half of the next line
            for text in ("two\n", "three\n"):
                file.write(text)
                file.flush()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (tmp_path / "out").read_text() == ("one\ntw" if kind is AppendedFile else "one\n")
        file.write("four\n")
        file.flush()
        assert (tmp_path / "out").read_text() == "one\ntwo\nthree\nfour\n"
    assert os.listdir(tmp_path) == ["out"]
    (line,) = capsys.readouterr().err.splitlines()
    assert "File too large" in line


def test_an_unwritable_file_is_reported_at_the_start(tmp_path: Path):
    with (
        pytest.raises(XlsrLiveError, match=r"cannot write .*out\.vtt: there is no folder .*nowhere$"),
        caption_output(str(tmp_path / "nowhere" / "out.vtt"), early=False),
    ):
        pass
    with (
        pytest.raises(click.UsageError, match=r"a file ending in \.vtt, \.srt"),
        caption_output("out.doc", early=False),
    ):
        pass


@pytest.mark.parametrize("kind", [AppendedFile, ReplacedFile])
def test_an_unwritable_file_is_reported_once(kind: type, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "folder").mkdir()
    for name in ("nowhere/out", "folder"):
        with pytest.raises(XlsrLiveError, match="cannot write"):
            kind(tmp_path / name)
    gc.collect()  # closes what is left of them
    assert capsys.readouterr().err == ""
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("name", ["out.vtt", "out.srt", "out.jsonl", "out.txt"])
def test_a_file_with_content_is_replaced_only_on_demand(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    old = "one\ntwo\nthree\n"
    (tmp_path / name).write_text(old)
    first = tmp_path / name.replace(".", "-1.")
    first.write_text("x\n" * 3)
    for overwrite in (False, True):
        with caption_output(str(tmp_path / name), early=False, overwrite=overwrite) as output:
            output.begin("talk.wav")
            for event in SESSION:
                output.show(event)
        err = capsys.readouterr().err
        if overwrite:
            assert err == ""
            assert (tmp_path / name).read_text() != old
        else:
            second = tmp_path / name.replace(".", "-2.")
            assert err == f"xlsr-live: {tmp_path / name} exists: writing {second} (--overwrite replaces it)\n"
            assert second.is_file()
            assert (tmp_path / name).read_text() == old
            assert first.read_text() == "x\n" * 3


def test_the_two_lines_of_a_killed_run_are_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "obs.txt"
    path.write_text("two lines\nof captions")
    with caption_output(str(path), early=False):
        assert path.read_text() == ""
    assert (os.listdir(tmp_path), capsys.readouterr().err) == (["obs.txt"], "")
