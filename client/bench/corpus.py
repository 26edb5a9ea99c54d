"""Recordings and their transcripts: a table, LibriSpeech's folders, or pairs of files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...streaming.errors import XlsrLiveError
from ...streaming.textfile import read_text
from ..console import needs
from ..sources.clips import load_clips

FILE: Final = ("file", "path", "audio", "filename")
TEXT: Final = ("text", "transcript", "sentence", "transcription")
SPEAKER: Final = ("speaker", "speaker_id", "client_id")
TRANSLATION: Final = ("translation", "reference", "target")
AUDIO: Final = (".wav", ".flac", ".ogg", ".opus", ".mp3")


class CorpusError(XlsrLiveError):
    """The recordings or their transcripts are unusable. The message says what to do."""

    code = "bad_corpus"


@dataclass(frozen=True, slots=True)
class CorpusRecording:
    """A recording with its transcript."""

    path: Path
    text: str  # the transcript; empty without speech
    speaker: str = ""
    set: str = ""
    translation: str = ""  # the reference translation, if the table has one


def read_translated(data: Path, *, where: Sequence[str] = (), limit: int | None = None) -> list[CorpusRecording]:
    """The recordings of a table whose texts all have a reference translation. Raises `CorpusError`."""
    recordings = read_corpus(data, where=where, limit=limit)
    for recording in recordings:
        if recording.text and not recording.translation:
            raise CorpusError(f"{data}: no column translation, or no text in it for {recording.path.name}")
    return recordings


def read_corpus(data: Path | None, *, where: Sequence[str] = (), limit: int | None = None) -> list[CorpusRecording]:
    """The recordings of a table or folder; None: the packaged clips. Raises `CorpusError`.

    `where` selects rows of a table by `COLUMN=VALUE`; a row must have one of the values given for each column. In a
    table without a column `set`, the set of a file is the name of its folder. `limit` selects that many recordings,
    evenly spaced.
    """
    if data is None:
        recordings = [CorpusRecording(clip.path, clip.text) for clip in load_clips()]
    elif not data.exists():
        raise CorpusError(f"{data}: no such file or folder")
    elif data.is_dir():
        data, recordings = _folder(data)
    else:
        recordings = None
    if recordings is None and data is not None:
        recordings = _table(data, where)
    elif where:
        raise CorpusError("--where selects rows of a table, but there is no table")
    if not recordings:
        raise CorpusError(f"{data} has no recordings")
    for recording in recordings:
        if not recording.path.is_file():
            raise CorpusError(f"{data}: it lists {recording.path}, which does not exist")
    if limit is None or limit >= len(recordings):
        return recordings
    return [recordings[place * len(recordings) // limit] for place in range(limit)]


def spoken(recordings: Sequence[CorpusRecording]) -> list[CorpusRecording]:
    """The recordings with a transcript. Raises `CorpusError` if there are none."""
    found = [recording for recording in recordings if recording.text]
    if not found:
        raise CorpusError("none of these recordings has a transcript")
    return found


def read_samples(recording: CorpusRecording) -> NDArray[np.float32]:
    """16 kHz mono samples, (n,), as a session decodes them. Raises `AudioError`."""
    with needs("bench", "reading recordings"):
        from ...streaming.audio import whole

    return whole.read_samples(recording.path)


def read_rows(table: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Header and rows of a .tsv (without quoting) or .csv file. Raises `CorpusError`."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as lines:
            tabs = table.suffix.lower() != ".csv"
            reader = csv.DictReader(
                lines,
                delimiter="\t" if tabs else ",",
                quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
                restval="",
            )
            rows = list(reader)
            return list(reader.fieldnames or ()), rows
    except UnicodeDecodeError as error:
        raise CorpusError(f"{table}: not a table in UTF-8") from error
    except csv.Error as error:
        raise CorpusError(f"{table}: not a table: {error}") from error


def column(table: Path, header: Sequence[str], names: Sequence[str]) -> str:
    """The first of `names` that is a column of the table. Raises `CorpusError`."""
    for name in names:
        if name in header:
            return name
    found = ", ".join(header) or "nothing"
    raise CorpusError(f"{table}: no column {' or '.join(names)} in its first line (it has: {found})")


def _table(table: Path, where: Sequence[str]) -> list[CorpusRecording]:
    header, rows = read_rows(table)
    file, text = column(table, header, FILE), column(table, header, TEXT)
    if "set" not in header:
        header = [*header, "set"]
        rows = [{**row, "set": Path(row[file]).parent.name} for row in rows]
    wanted: dict[str, list[str]] = {}
    for condition in where:
        name, _, value = condition.partition("=")
        wanted.setdefault(name, []).append(value)
    for name, values in wanted.items():
        if name not in header:
            raise CorpusError(f"{table}: no column {name!r} for --where (it has: {', '.join(header)})")
        known = sorted({row[name] for row in rows})
        if unknown := [value for value in values if value not in known]:
            raise CorpusError(f"{table}: no row where {name}={unknown[0]} ({name} is {', '.join(known[:10])})")
        rows = [row for row in rows if row[name] in values]
    speaker, translation = (next((name for name in names if name in header), "") for names in (SPEAKER, TRANSLATION))
    return [
        CorpusRecording(
            _audio(table, row[file]),
            row[text].strip(),
            row.get(speaker, ""),
            row.get("set", ""),
            row.get(translation, "").strip(),
        )
        for row in rows
    ]


def _audio(table: Path, name: str) -> Path:
    """A file beside the table, or in the folder `clips` beside it, as in Common Voice."""
    beside = table.parent / name
    inside = table.parent / "clips" / name
    return inside if inside.is_file() and not beside.is_file() else beside


def _folder(folder: Path) -> tuple[Path, list[CorpusRecording] | None]:
    """The folder's only table without reading it, or the recordings of a folder without tables."""
    tables = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".tsv", ".csv"))
    if len(tables) > 1:
        raise CorpusError(f"{folder}: several tables ({', '.join(path.name for path in tables)}): name one of them")
    if tables:
        return tables[0], None
    recordings = list(_librispeech(folder)) or list(_pairs(folder))
    if not recordings:
        raise CorpusError(f"{folder}: no table (.tsv, .csv), no *.trans.txt, no pairs like talk.wav and talk.txt")
    return folder, recordings


def _librispeech(folder: Path) -> Iterator[CorpusRecording]:
    for listing in sorted(folder.rglob("*.trans.txt")):
        for line in read_text(listing, "the transcripts").splitlines():
            name, _, text = line.partition(" ")
            yield CorpusRecording(listing.parent / f"{name}.flac", text.strip(), speaker=name.split("-")[0])


def _pairs(folder: Path) -> Iterator[CorpusRecording]:
    for path in sorted(folder.rglob("*")):
        text = path.with_suffix(".txt")
        if path.suffix.lower() in AUDIO and text.is_file():
            yield CorpusRecording(path, " ".join(read_text(text, "the transcript").split()))
