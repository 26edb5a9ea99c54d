"""`--summary`: the lines after the transcript."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from xlsr_live.client.output.summary import Summary, read_reference, split_words
from xlsr_live.streaming.errors import XlsrLiveError
from xlsr_live.streaming.protocol.events import Event, Final, SessionEnded, SessionStarted, SpeechEnded, Word


def session() -> list[Event]:
    words = (Word("ONE", 0.5, 0.8, 0.9), Word("TOO", 1.0, 1.3, 0.9))
    return [
        SessionStarted(session="s", model="digits", mode="cached"),
        Final(utterance=0, text="ONE TOO", words=words, start=0.2, end=1.6, confidence=0.9),
        SpeechEnded(utterance=0, end=1.6, reason="silence"),
        SessionEnded(audio_s=2.0, utterances=1),
    ]


def summarized(*, paced: bool, local: bool, reference: list[str] | None = None, head_start: float = 0.0) -> list[str]:
    out = io.StringIO()
    with Summary(out, reference=reference, paced=paced, local=local) as shown:
        shown.head_start(head_start)
        for event in session():
            shown.show(event)
        assert out.getvalue() == ""
    return out.getvalue().splitlines()


def test_words_and_their_error_rate():
    lines = summarized(paced=False, local=True, reference=["one", "two", "three", "four"])
    assert lines[:2] == ["2 words in 2.0 s of audio", "WER 75.0 % (3 of 4 words)"]
    assert lines[2].startswith("real-time factor")


def test_live_audio_has_latencies_and_a_remote_server_no_real_time_factor():
    lines = summarized(paced=True, local=False)
    assert [line.split(":")[0] for line in lines[1:]] == ["word shown", "word committed", "final after its last word"]


def test_audio_recorded_while_the_model_loaded_counts_as_late():
    def late(head_start: float) -> float:
        (line,) = [each for each in summarized(paced=True, local=False, head_start=head_start) if "final" in each]
        return float(line.removeprefix("final after its last word: ").split()[0])

    assert late(100.0) == pytest.approx(late(0.0) + 100.0, abs=5.0)


def test_case_and_punctuation_of_a_reference_do_not_count(tmp_path: Path):
    (tmp_path / "said.txt").write_text("One, two;\nthat's THREE.")
    assert read_reference(tmp_path / "said.txt") == ["one", "two", "that's", "three"]
    (tmp_path / "said.txt").write_text("...")
    with pytest.raises(XlsrLiveError, match="has no words"):
        read_reference(tmp_path / "said.txt")
    with pytest.raises(XlsrLiveError, match="cannot read"):
        read_reference(tmp_path / "nothing.txt")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("हिन्दी में की का।", ["हिन्दी", "में", "की", "का"]),
        ("Cafe\u0301 CAFÉ", ["café", "café"]),
        ("ΑΫ\u0301 αΰ", ["αΰ", "αΰ"]),
        ("It’s it's ‘quoted’ 'quoted' ’", ["it's", "it's", "quoted", "quoted"]),
        ("می\u200cخواهم co\u00adoperate", ["میخواهم", "cooperate"]),
        ("well-known, 3.5 -- «oui»…", ["well", "known", "3", "5", "oui"]),
    ],
)
def test_words_of_every_script_and_encoding(text: str, words: list[str]):
    assert split_words(text) == words
