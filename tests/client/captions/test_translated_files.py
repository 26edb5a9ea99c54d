"""Subtitles of two languages from one run, read by parsers that others wrote."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from xlsr_live.client.cli import cli
from xlsr_live.client.output import formats
from xlsr_live.client.output.open import written
from xlsr_live.client.output.options import OutputOptions
from xlsr_live.streaming.captions.cues import LINE_CHARS, CueMaker
from xlsr_live.streaming.captions.translated import TranslatedCues, spread
from xlsr_live.streaming.protocol.events import Event, Final, SessionEnded, SessionStarted, Translation, Word
from xlsr_live.streaming.translation.apertium import Apertium

from tests.support.paths import CLIPS, DIGITS
from tests.support.translators import LIMIT, apertium

pysrt = pytest.importorskip("pysrt", reason="needs pysrt")
webvtt = pytest.importorskip("webvtt", reason="needs webvtt-py")


def spoken(count: int) -> list[Event]:
    """Finals of many words, with translations that come one utterance later."""
    events: list[Event] = [SessionStarted(session="s", model="m", mode="cached")]
    late: list[Translation] = []
    now = 0.0
    for number in range(count):
        words = tuple(Word(f"WORD{at}", now + 0.4 * at, now + 0.4 * at + 0.3, 0.9) for at in range(5 + 7 * number))
        text = " ".join(word.word for word in words)
        start, now = now, words[-1].end + 1
        final = Final(utterance=number, text=text, words=words, start=start, end=now - 0.5, confidence=0.9)
        events.append(msgspec.structs.replace(final, language="deu"))
        events += late
        said = " ".join(f"palabra{at} larga" for at in range(4 + 6 * number))
        late = [Translation(utterance=number, language="es", text=said, start=start, end=now - 0.5)]
    return [*events, *late, SessionEnded(audio_s=now, utterances=count)]


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_both_files_parse_and_have_the_times_of_the_original(form: str, tmp_path: Path):
    path, events = tmp_path / f"talk.{form}", spoken(6)
    with written(form, path, OutputOptions(languages=("Spanish",))) as output:
        output.begin("talk")
        for event in events:
            output.show(event)

    def read(file: Path) -> list[tuple[int, int, str]]:
        if form == "srt":
            return [(cue.start.ordinal, cue.end.ordinal, cue.text) for cue in pysrt.open(file)]
        found = webvtt.read(file)
        return [(round(1000 * cue.start_in_seconds), round(1000 * cue.end_in_seconds), cue.text) for cue in found]

    original, translated = read(path), read(tmp_path / f"talk.es.{form}")
    if form == "vtt":
        headers = [file.read_text().split("\n\n")[0] for file in (path, tmp_path / "talk.es.vtt")]
        assert headers == ["WEBVTT\nLanguage: de", "WEBVTT\nLanguage: es"]
    texts = [" ".join(event.text for event in events if isinstance(event, kind)) for kind in (Final, Translation)]
    for cues, text in zip((original, translated), texts, strict=True):
        assert " ".join(cue.replace("\n", " ") for _, _, cue in cues) == text
        assert all(len(line) <= LINE_CHARS for _, _, cue in cues for line in cue.split("\n"))
        assert all(cue.count("\n") <= 1 for _, _, cue in cues)
    # Every translated cue lies within one of the original's. (The parsers of whole seconds lose up to a millisecond.)
    for start, end, _ in translated:
        assert any(first <= start + 1 and end <= last + 1 for first, last, _ in original)
    assert {start // 10 for start, _, _ in translated} & {start // 10 for start, _, _ in original}


def test_no_word_is_lost_for_any_number_of_cues():
    for event in spoken(8):
        if isinstance(event, Final):
            cues = CueMaker().receive(event)
            for text in ("una", "una dos tres", " ".join(["palabra"] * 90), "x" * 500, "字" * 200):
                made = list(spread(text, cues))
                separator = " " if " " in text else ""
                assert separator.join(separator.join(cue.lines) for cue in made) == text
                assert [cue.start for cue in made] == sorted(cue.start for cue in made)


def test_a_translation_of_another_language_or_of_an_unknown_final_changes_no_cue():
    maker = TranslatedCues("es")
    assert maker.receive(Translation(utterance=0, language="fr", text="oui", start=1.0, end=2.0)) == []
    (cue,) = maker.receive(Translation(utterance=9, language="es", text="sí", start=1.0, end=2.0))
    assert cue == (1.0, 2.0, ("sí",))


def test_several_languages_need_files():
    result = CliRunner().invoke(
        cli, ["transcribe", str(CLIPS / "george.flac"), "--translate", "es", "--translate", "fr", "-f", "srt"]
    )
    assert result.exit_code == 2


def test_the_command_line_writes_both_files_and_the_captions_of_a_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    apertium().close()
    monkeypatch.setitem(Apertium.__init__.__kwdefaults__, "answer_s", LIMIT)
    path = tmp_path / "talk.srt"
    arguments = ["transcribe", str(CLIPS / "george.flac"), "--model", str(DIGITS), "--device", "cpu"]
    arguments += ["--translate", "Spanish", "--translate-from", "en", "--translate-max-lag", str(2 * LIMIT)]
    arguments += ["--captions", f"es={tmp_path / 'live.vtt'}", "--captions", f"es={tmp_path / 'live.txt'}"]
    arguments += ["--format", "srt", "-o", str(path)]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert [cue.text for cue in pysrt.open(path)] == ["One two nine four eight one"]
    expected = ["Uno dos nueve cuatro ocho un"]
    assert [cue.text for cue in pysrt.open(tmp_path / "talk.es.srt")] == expected
    assert [cue.text for cue in webvtt.read(tmp_path / "live.vtt")] == expected
    assert (tmp_path / "live.txt").read_text() == expected[0]


def test_text_and_json_have_the_translations(capsys: pytest.CaptureFixture[str]):
    import io
    import json

    for name, read in (("text", str.splitlines), ("json", json.loads)):
        out = io.StringIO()
        with formats.FORMATS[name](out) as output:
            for event in spoken(1):
                output.show(event)
        found = read(out.getvalue())
        if name == "text":
            assert found[1].startswith("[es] palabra0")
        else:
            assert found["translations"][0]["text"].startswith("palabra0")
