"""Looking at the data before any step: each kind of bad data has its sentence, and nothing bad is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from xlsr_live.streaming.ctc.vocabulary import Vocabulary
from xlsr_live.training.alphabet import choose_alphabet
from xlsr_live.training.errors import TrainingError
from xlsr_live.training.recordings import Decoded, Listed, decode
from xlsr_live.training.survey import Survey, needed, survey

ENGLISH = Vocabulary(("", "", "", "", " ", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"), 0)
Rows = list[tuple[Listed, Decoded]]


def rows(*texts: str, seconds: float = 2.0, speaker: str = "anna", name: str = "good") -> Rows:
    return [
        (Listed(Path(f"{name}{at}.wav"), text, speaker), Decoded(at * 32_000, int(16_000 * seconds), level=0.1))
        for at, text in enumerate(texts)
    ]


GOOD = [f"{word} {other}" for word in ("ONE", "TWO", "THREE", "FOUR") for other in ("TEN", "TWENTY", "THIRTY")]


def look(bad: Rows, validation: Rows | None = None) -> Survey:
    return survey([*rows(*GOOD), *bad], validation, ENGLISH)


def one(text: str, **decoded: object) -> Rows:
    return [(Listed(Path("bad.wav"), text, "bert"), Decoded(**{"samples": 32_000, "level": 0.1, **decoded}))]


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (one("HELLO", problem="the file is damaged"), "unreadable: 1 recording (bad.wav: the file is damaged)."),
        (one(""), "without text (those without speech are for --noise): 1 recording (bad.wav)."),
        (one("...!"), "no letter in the text: 1 recording (bad.wav)."),
        (one("AT 10 OCLOCK"), "digits in the text (write numbers as they are said): 1 recording (bad.wav: 01)."),
        (one("ÐONE"), "characters that the vocabulary lacks: 1 recording (bad.wav: Ð)."),
        (one("HELLO", samples=400), "too short for the text: 1 recording (bad.wav)."),
        (
            one("HELLO", samples=16_000 * 21),
            "longer than 20 s (cut them at pauses): 1 recording (bad.wav: 21.0 s).",
        ),
        (one("HELLO", level=0.0), "silent: 1 recording (bad.wav)."),
    ],
    ids=lambda value: value.split(":")[0][:40] if isinstance(value, str) else "",
)
def test_what_cannot_be_used_is_left_out_with_one_sentence(bad: Rows, sentence: str):
    found = look(bad)
    assert [each for each in found.sentences if each.startswith("Left out")] == [
        each for each in found.sentences if each.startswith(f"Left out, {sentence}")
    ]
    assert len(found.training) + len(found.validation) == len(GOOD)
    assert not any(each.path.name == "bad.wav" for each in (*found.training, *found.validation))


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (one("HELLO", channels=2), "Mixed to one channel: 1 recording."),
        (
            one("HELLO", rate=8000),
            "Resampled to 16,000 Hz: 1 recording of 8000 Hz; nothing above 4 kHz is in them.",
        ),
        (one("hello there"), "Rewritten: 1 of 13 texts, such as 'hello there' as 'HELLO THERE'."),
        (one("HELLO \N{GRINNING FACE}"), "Removed from texts, as nobody says them: \N{GRINNING FACE}"),
    ],
)
def test_what_is_changed_is_said(bad: Rows, sentence: str):
    found = look(bad)
    assert sentence in found.sentences
    assert len(found.training) + len(found.validation) == len(GOOD) + 1
    assert all(set(each.text) <= set(" 'ABCDEFGHIJKLMNOPQRSTUVWXYZ") for each in found.training)


def test_shared_speakers_texts_and_recordings_of_two_tables_are_named():
    held = rows("ONE TEN", "SIX", name="held")
    found = look([], held)
    assert any("both tables have 1 speaker (anna)" in each for each in found.sentences)
    assert "Known texts: training has 1 of 2 texts of validation too." in found.sentences
    again = look([], [*held, *rows(*GOOD)[:1]])
    assert any("both tables have 1 recording," in each for each in again.sentences)


def test_speakers_are_held_out_where_there_are_enough_and_texts_elsewhere():
    many = [row for name in "abcdefghij" for row in rows(*GOOD[:3], speaker=name, name=name)]
    found = survey(many, None, ENGLISH)
    assert found.validation
    assert not {each.speaker for each in found.training} & {each.speaker for each in found.validation}
    few = survey(rows(*GOOD * 2), None, ENGLISH)
    assert few.validation
    assert not {each.text for each in few.training} & {each.text for each in few.validation}
    assert any("speakers are not kept apart" in each for each in few.sentences)


def test_too_little_is_an_error_that_says_why():
    with pytest.raises(TrainingError, match=r"only 0 of 1 recordings can be used.*too short for the text: 1"):
        survey(one("HELLO", samples=400), None, ENGLISH)
    with pytest.raises(TrainingError, match="none of 1 recordings can be read"):
        survey(one(""), None, ENGLISH)


def test_a_new_vocabulary_is_what_the_texts_need():
    texts = ["Grüße, das ist's!", "GRÜẞE aus Köln 😀"] * 100 + ["a çedilla"]
    alphabet = choose_alphabet(texts)
    assert alphabet.case == "lower"
    assert "ç" in alphabet.rare
    assert set(alphabet.tokens) >= {"<pad>", "|", "ü", "ß", "ö", "'"}
    assert not set(alphabet.tokens) & {"😀", "!", ",", "ç", "G"}
    assert choose_alphabet(["ABER JA", "NEIN"]).case == "upper"
    assert "|" not in choose_alphabet(["你好吗", "我们很好"]).tokens
    assert "ı" in choose_alphabet(["ISPARTA ığdır"]).tokens
    decomposed = choose_alphabet(["u\N{COMBINING DIAERESIS}ber"])
    assert "ü" in decomposed.tokens


def test_texts_from_right_to_left_are_labelled_in_spoken_order():
    texts = ["שלום עולם", "עולם טוב", "שלום שלום", "טוב"] * 4
    found = survey(rows(*texts), None, None)
    assert any("right to left" in each for each in found.sentences)
    first = next(each for each in found.training if each.text == "שלום עולם")
    assert found.vocabulary.texts[first.labels[0]] == "ש"


def test_another_language_gets_a_new_vocabulary_and_a_stray_letter_does_not():
    assert look(one("BERÜHMT")).alphabet is None
    assert survey(rows("ÜBER", "ÖL", "ÄRGER", "FÜR", "SCHÖN", "NÄHE"), None, ENGLISH).alphabet is not None
    assert survey(rows(*GOOD), None, ENGLISH, "new").alphabet is not None
    pieces = Vocabulary(("", " ", "ONE", "T", "EN"), 0)
    assert survey(rows(*GOOD), None, pieces).alphabet is not None
    with pytest.raises(TrainingError, match="sub-words"):
        survey(rows(*GOOD), None, pieces, "keep")
    with pytest.raises(TrainingError, match="no vocabulary to keep"):
        survey(rows(*GOOD), None, None, "keep")


def test_ctc_needs_a_frame_for_each_label_and_one_between_equal_ones():
    assert needed([5, 6, 6, 7]) == 5


def test_recordings_of_every_kind_are_decoded_once(tmp_path: Path):
    draw = np.random.default_rng(0)
    soundfile.write(tmp_path / "mono.wav", draw.normal(0, 0.1, 16_000), 16_000)
    soundfile.write(tmp_path / "stereo.flac", draw.normal(0, 0.1, (22_050, 2)), 22_050)
    soundfile.write(tmp_path / "phone.wav", draw.normal(0, 0.1, 8_000), 8_000)
    soundfile.write(tmp_path / "frame.wav", draw.normal(0, 0.1, 100), 16_000)
    (tmp_path / "broken.wav").write_bytes(b"RIFF of nothing")
    names = ("mono.wav", "stereo.flac", "phone.wav", "frame.wav", "broken.wav", "missing.wav")
    listed = [Listed(tmp_path / name, "A") for name in names]
    audio, found = decode(listed, tmp_path / "work")
    assert [abs(each.samples - 16_000) < 50 for each in found] == [True, True, True, False, False, False]
    assert [bool(each.problem) for each in found] == [False, False, False, True, True, True]
    assert (found[1].rate, found[1].channels, found[2].rate) == (22_050, 2, 8_000)
    assert "ms of audio" in found[3].problem
    assert "no such file" in found[5].problem
    want = soundfile.read(tmp_path / "mono.wav", dtype="float32")[0]
    assert np.abs(audio(found[0]) - want).max() < 1e-4
    stamp = (tmp_path / "work" / "audio.i16").stat().st_mtime_ns
    assert decode(listed, tmp_path / "work")[1] == found
    assert (tmp_path / "work" / "audio.i16").stat().st_mtime_ns == stamp
    soundfile.write(tmp_path / "frame.wav", draw.normal(0, 0.1, 16_000), 16_000)
    assert not decode(listed, tmp_path / "work")[1][3].problem
