"""Text, JSON, SRT and WebVTT from events: syntax, times and the guidelines for subtitles."""

from __future__ import annotations

import io
import json
import re

import pytest
from xlsr_live.client.output.formats import FORMATS, Output
from xlsr_live.streaming.captions.subtitles import clock
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


def final(text: str, start: float = 0.0, word_s: float = 0.4, utterance: int = 0) -> Final:
    words = tuple(
        Word(word, round(start + word_s * place, 3), round(start + word_s * (place + 0.8), 3), 0.9)
        for place, word in enumerate(text.split())
    )
    end = words[-1].end + 0.24
    return Final(utterance=utterance, text=text, words=words, start=start, end=end, confidence=0.9)


def session(*finals: Final) -> list[Event]:
    events: list[Event] = [SessionStarted(session="s", model="digits", mode="window")]
    for one in finals:
        events += [
            SpeechStarted(utterance=one.utterance, start=one.start),
            Partial(utterance=one.utterance, committed="", volatile="O", words=(), audio_s=1.0, lag_ms=1.0),
            one,
            SpeechEnded(utterance=one.utterance, end=one.end, reason="silence"),
        ]
    return [*events, SessionEnded(audio_s=9.5, utterances=len(finals))]


def render(form: str, *recordings: list[Event], several: bool = False) -> str:
    out = io.StringIO()
    with FORMATS[form](out, several=several) as output:
        for place, events in enumerate(recordings):
            output.begin(f"{place}.wav")
            for event in events:
                output.show(event)
    return out.getvalue()


TWO = session(final("ONE TWO"), final("THREE", start=4.0, utterance=1))


def test_text_is_a_line_for_each_final():
    assert render("text", TWO) == "ONE TWO\nTHREE\n"
    assert render("text", TWO, session(), TWO[:3] + TWO[3:4], several=True).splitlines() == [
        "0.wav: ONE TWO",
        "0.wav: THREE",
        "2.wav: ONE TWO",
    ]


def test_json_lines_are_the_events_themselves():
    assert [from_json(line) for line in render("jsonl", TWO).splitlines()] == TWO
    lines = render("jsonl", TWO, several=True).splitlines()
    assert [from_json(line) for line in lines] == TWO
    assert {json.loads(line)["file"] for line in lines} == {"0.wav"}


def test_json_is_one_document_and_an_array_of_several():
    document = json.loads(render("json", TWO))
    assert document["file"] == "0.wav"
    assert document["model"] == "digits"
    assert document["duration"] == 9.5
    assert document["text"] == "ONE TWO THREE"
    assert [one["text"] for one in document["finals"]] == ["ONE TWO", "THREE"]
    assert [one["word"] for one in document["words"]] == ["ONE", "TWO", "THREE"]
    assert [one["file"] for one in json.loads(render("json", TWO, session(), several=True))] == ["0.wav", "1.wav"]


def test_srt():
    assert render("srt", TWO) == (
        "1\n00:00:00,000 --> 00:00:00,833\nONE TWO\n\n"  # 0.72 s of words, shown for the shortest time
        "2\n00:00:04,000 --> 00:00:04,833\nTHREE\n\n"
    )
    assert render("srt", session()) == ""


def test_vtt_escapes_and_has_its_header_without_cues():
    text = render("vtt", session(final("A<B & C-->D")))
    assert text == "WEBVTT\n\n00:00:00.000 --> 00:00:01.120\nA&lt;B &amp; C--&gt;D\n\n"
    assert render("vtt", session()) == "WEBVTT\n\n"


@pytest.mark.parametrize("form", ["text", "jsonl", "srt", "vtt"])
def test_a_final_is_out_before_the_next_event(form: str):
    class Flushed(io.StringIO):
        shown = ""

        def flush(self) -> None:
            self.shown = self.getvalue()

    out = Flushed()
    output: Output = FORMATS[form](out)
    for event in TWO[:4]:
        output.show(event)
    assert "ONE TWO" in out.shown


def test_warnings_go_to_stderr(capsys: pytest.CaptureFixture[str]):
    assert render("text", [Warning(code="degraded", message="fewer partials")]) == ""
    assert capsys.readouterr().err == "degraded: fewer partials\n"


def test_clock():
    assert clock(0) == "00:00:00.000"
    assert clock(59.9996) == "00:01:00.000"
    assert clock(360_000.001, ",") == "100:00:00,001"


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_subtitles_read_back(form: str):
    events = session(final(" ".join(["SEVENTEEN"] * 30)), final("OH", start=20.0, utterance=1))
    pattern = re.compile(
        r"(?:(\d+)\n)?(\d\d):(\d\d):(\d\d)[,.](\d{3}) --> (\d\d):(\d\d):(\d\d)[,.](\d{3})\n((?:.+\n)+)\n"
    )
    found = pattern.findall(render(form, events))
    assert " ".join(one[-1].replace("\n", " ").strip() for one in found).split() == ["SEVENTEEN"] * 30 + ["OH"]
    if form == "srt":
        assert [int(one[0]) for one in found] == list(range(1, len(found) + 1))
