"""Corpora: every supported layout, and every error in one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
from xlsr_live.client.bench.alignment import end_of, read_alignment
from xlsr_live.client.bench.corpus import CorpusError, CorpusRecording, read_corpus, read_samples, spoken
from xlsr_live.client.bench.streams import Playlist
from xlsr_live.client.sources.clips import load_clips
from xlsr_live.streaming.protocol.events import Word


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six recordings in two folders, without texts."""
    (tmp_path / "clips").mkdir()
    for name in ("a.wav", "b.wav", "c.wav", "clips/d.wav", "clips/e.wav", "clips/f.wav"):
        soundfile.write(tmp_path / name, np.zeros(1_600, np.int16), 16_000)
    return tmp_path


def table(folder: Path, text: str, name: str = "all.tsv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_is_read_by_its_column_names(folder: Path):
    path = table(folder, 'text\tset\tfile\tspeaker\nSAY "A"\tx\ta.wav\tjo\n\ty\tb.wav\tal\n')
    first, second = read_corpus(path)
    assert first == CorpusRecording(folder / "a.wav", 'SAY "A"', "jo", "x")
    assert second.text == ""
    assert read_corpus(folder) == [first, second]
    assert spoken([first, second]) == [first]


def test_common_voice_keeps_its_recordings_in_clips(folder: Path):
    path = table(folder, "client_id\tpath\tsentence\tage\n1\td.wav\tGuten Tag.\t\n")
    assert read_corpus(path) == [CorpusRecording(folder / "clips" / "d.wav", "Guten Tag.", speaker="1")]


def test_quotes_in_csv_are_removed(folder: Path):
    path = table(folder, 'audio,transcript\na.wav,"one, two"\n', "all.csv")
    assert [recording.text for recording in read_corpus(path)] == ["one, two"]


def test_librispeech_has_one_list_of_texts_in_each_folder(folder: Path):
    chapter = folder / "61" / "70968"
    chapter.mkdir(parents=True)
    for number in range(2):
        soundfile.write(chapter / f"61-70968-000{number}.flac", np.zeros(1_600, np.int16), 16_000)
    (chapter / "61-70968.trans.txt").write_text("61-70968-0000 HE BEGAN\n61-70968-0001 A CONFUSED\n")
    first, second = read_corpus(folder)
    assert (first.path.name, first.text, first.speaker) == ("61-70968-0000.flac", "HE BEGAN", "61")
    assert second.text == "A CONFUSED"


def test_a_text_file_for_each_recording_is_read(folder: Path):
    (folder / "a.txt").write_text("one\ntwo\n")
    (folder / "clips" / "e.txt").write_text("three")
    assert [(r.path.name, r.text) for r in read_corpus(folder)] == [("a.wav", "one two"), ("e.wav", "three")]


def test_without_data_the_packaged_clips_are_used():
    recordings = read_corpus(None)
    assert [recording.path for recording in recordings] == [clip.path for clip in load_clips()]
    assert 0 < len(spoken(recordings)) < len(recordings)


def test_rows_can_be_filtered(folder: Path):
    rows = "".join(f"{name}.wav\t{name}\t{'x' if name < 'c' else 'y'}\n" for name in "abcdef")
    path = table(folder, "file\ttext\tset\n" + rows)
    assert [r.text for r in read_corpus(path, where=["set=x"])] == ["a", "b"]
    assert [r.text for r in read_corpus(path, where=["set=y", "text=e"])] == ["e"]
    assert [r.text for r in read_corpus(path, where=["text=b", "text=e"])] == ["b", "e"]
    assert [r.text for r in read_corpus(path, limit=3)] == ["a", "c", "e"]  # spread over the table
    assert len(read_corpus(path, limit=9)) == 6


def test_without_a_set_column_the_folder_is_the_set(folder: Path):
    path = table(folder, "file\ttext\na.wav\tA\nclips/e.wav\tE\n")
    assert [r.set for r in read_corpus(path)] == ["", "clips"]
    assert [r.text for r in read_corpus(path, where=["set=clips"])] == ["E"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("all.tsv", "file\tspeaker\na.wav\tjo\n", "no column text or transcript"),
        ("all.tsv", "text\nA\n", "no column file or path"),
        ("all.tsv", "file\ttext\nz.wav\tA\n", "z.wav, which does not exist"),
        ("all.tsv", "file\ttext\n", "no recordings"),
        ("all.tsv", "", "nothing"),
        ("all.csv", "file\ttext\na.wav\tA\n", "no column"),
    ],
)
def test_a_bad_table_is_one_clear_line(folder: Path, name: str, text: str, words: str):
    with pytest.raises(CorpusError, match=words) as error:
        read_corpus(table(folder, text, name))
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_other_mistakes_are_one_clear_line(folder: Path):
    with pytest.raises(CorpusError, match="no such file"):
        read_corpus(folder / "nowhere")
    with pytest.raises(CorpusError, match="no table"):
        read_corpus(folder)
    with pytest.raises(CorpusError, match="there is no table"):
        read_corpus(None, where=["set=x"])
    path = table(folder, "file\ttext\na.wav\tA\n")
    with pytest.raises(CorpusError, match="no column 'speaker'"):
        read_corpus(path, where=["speaker=x"])
    with pytest.raises(CorpusError, match=r"no row where text=B \(text is A\)"):
        read_corpus(path, where=["text=B"])
    path.with_name("binary.tsv").write_bytes(b"\xff\xfe\x00f")
    with pytest.raises(CorpusError, match="UTF-8"):
        read_corpus(path.with_name("binary.tsv"))
    with pytest.raises(CorpusError, match=r"several tables \(all.tsv, binary.tsv\)"):
        read_corpus(folder)
    with pytest.raises(CorpusError, match="none of these recordings"):
        spoken([CorpusRecording(path, "")])


def test_samples_are_16_khz_mono(folder: Path):
    tone = np.sin(np.arange(22_050) / 10)
    soundfile.write(folder / "a.wav", np.stack((tone, -tone), 1), 22_050)
    samples = read_samples(CorpusRecording(folder / "a.wav", ""))
    assert abs(len(samples) - 16_000) <= 1
    assert 0.9 < np.abs(samples).max() < 1.1  # the channels cancel each other, so one of them is used


# --- the audio of paced streams


def material(silence: float = 1 / 3) -> Playlist:
    return Playlist([np.full(length, length, np.int16) for length in (2_000, 1_000, 4_000)], silence)


@pytest.mark.parametrize("silence", [0.0, 1 / 3, 0.5])
def test_pauses_have_the_configured_share_of_a_stream(silence: float):
    samples = np.frombuffer(b"".join(material(silence).packets(1, 700, 300_000)), "<i2")
    assert 300_000 <= len(samples) < 300_700
    quiet = np.abs(samples) < 500
    assert abs(quiet.mean() - silence) < 0.01


def test_a_pause_is_faint_noise():
    pause = np.frombuffer(next(material(0.9).packets(0, 20_000, 20_000)), "<i2")[2_000:]
    assert np.sqrt(np.mean(pause.astype(float) ** 2)) == pytest.approx(32_768 / 1_000, rel=0.05)  # -60 dBFS


def test_every_stream_starts_with_another_recording_for_any_packet_size():
    def whole(first: int, size: int) -> bytes:
        return b"".join(material().packets(first, size, 20_000))[:40_000]

    assert whole(0, 160) == whole(0, 1_600) == whole(3, 777)
    assert whole(0, 160) != whole(1, 160)
    places = [(at, len(recording)) for at, recording in islice(material().pieces(1), 4)]
    assert places == [(0, 1_000), (1_500, 4_000), (7_500, 2_000), (10_500, 1_000)]


def test_word_ends_come_from_a_given_alignment(folder: Path):
    path = table(folder, "file\tword\tend\na.wav\tone\t0.05\nc.wav\tone\t0.1\nc.wav\tTwo\t0.2\n", "ends.tsv")
    aligned = read_alignment(path, [CorpusRecording(Path(f"{name}.wav"), "") for name in "abc"])
    end: Callable[[Word], float] = end_of(aligned, material(), 1)  # b at 0 s, c at 0.09375 s, a at 0.46875 s
    assert end(Word("TWO", 0.2, 0.25, 1.0)) == pytest.approx(0.09375 + 0.2)
    assert end(Word("ONE", 0.48, 0.5, 1.0)) == pytest.approx(0.46875 + 0.05)
    assert end(Word("ONE", 0.01, 0.04, 1.0)) == 0.04  # b has no alignment
    assert end(Word("THREE", 0.2, 0.25, 1.0)) == 0.25  # nor has this word
    with pytest.raises(CorpusError, match="lists none of the recordings"):
        read_alignment(path, [CorpusRecording(Path("z.wav"), "")])
    with pytest.raises(CorpusError, match="'soon' is not a time"):
        read_alignment(
            table(folder, "file\tword\tend\na.wav\tone\tsoon\n", "ends.tsv"), [CorpusRecording(Path("a.wav"), "")]
        )
