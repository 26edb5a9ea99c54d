"""`--per-language`: the subtitles of each spoken language in a file of its own, beside all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from xlsr_live.client.cli import run
from xlsr_live.client.output.open import written
from xlsr_live.client.output.options import OutputOptions
from xlsr_live.streaming.protocol.events import Event, Final, SessionEnded, SessionStarted, SpeechEnded, Word

from tests.support.recordings import flac

pysrt = pytest.importorskip("pysrt", reason="needs pysrt")
webvtt = pytest.importorskip("webvtt", reason="needs webvtt-py")

TEXTS = (("deu", "guten Tag"), ("cmn-script_simplified", "你好"), ("deu", "auf Wiedersehen"), ("eng", "good bye"))


def conversation(*, named: bool = True) -> list[Event]:
    events: list[Event] = [SessionStarted(session="s", model="m", mode="cached")]
    for number, (language, text) in enumerate(TEXTS):
        start, end = 3.0 * number, 3.0 * number + 1.5
        words = tuple(Word(word, start + 0.5 * at, start + 0.5 * at + 0.4, 0.9) for at, word in enumerate(text.split()))
        spoken = {"language": language} if named else {}
        events.append(Final(utterance=number, text=text, words=words, start=start, end=end, confidence=0.9, **spoken))
        events.append(SpeechEnded(utterance=number, end=end, reason="silence"))
    return [*events, SessionEnded(audio_s=12.0, utterances=len(TEXTS))]


def write(path: Path, events: list[Event], options: OutputOptions) -> None:
    with written(path.suffix[1:], path, options) as output:
        output.begin("talk")
        for event in events:
            output.show(event)


def read(path: Path) -> list[str]:
    return [cue.text for cue in (webvtt.read(path) if path.suffix == ".vtt" else pysrt.open(path))]


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_each_language_has_a_file_of_its_own(form: str, tmp_path: Path):
    (tmp_path / f"talk.eng.{form}").write_text("kept")
    write(tmp_path / f"talk.{form}", conversation(), OutputOptions(per_language=True))
    names = ("deu", "cmn-script_simplified", "eng-1")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"talk.{name}{form}" for name in ("", *(f"{name}." for name in (*names, "eng")))
    )
    found = [read(tmp_path / f"talk.{name}.{form}") for name in names]
    assert found == [["guten Tag", "auf Wiedersehen"], ["你好"], ["good bye"]]
    assert len(read(tmp_path / f"talk.{form}")) == len(TEXTS)
    assert (tmp_path / f"talk.eng.{form}").read_text() == "kept"
    if form == "vtt":
        header = (tmp_path / "talk.cmn-script_simplified.vtt").read_text().split("\n\n")[0]
        assert header == "WEBVTT\nLanguage: zh-Hans"
        assert "<lang" not in (tmp_path / "talk.deu.vtt").read_text()


def test_without_the_option_or_without_languages_there_is_one_file(tmp_path: Path):
    write(tmp_path / "plain.vtt", conversation(), OutputOptions())
    write(tmp_path / "unnamed.vtt", conversation(named=False), OutputOptions(per_language=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain.vtt", "unnamed.vtt"]


@pytest.mark.parametrize("output", [[], ["-f", "vtt"], ["-o", "talk.txt"], ["-o", "talk.json"]])
@pytest.mark.parametrize("verb", ["transcribe", "stream"])
def test_it_needs_subtitles_in_files(verb: str, output: list[str], capsys: pytest.CaptureFixture[str]):
    assert run([verb, flac("george"), "--per-language", *output]) == 2
    assert "--per-language needs subtitles in files" in capsys.readouterr().err
