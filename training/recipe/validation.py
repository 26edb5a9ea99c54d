"""Write the validation cut as FLAC files and a table, for tools that read recordings.

`python -m xlsr_live.training.recipe.validation --work WORK --out DIR`
"""

from __future__ import annotations

import argparse
from pathlib import Path

import soundfile

from .data import Speech
from .score import validation
from .settings import RATE, Work

CORPORA = ("librispeech", "an4", "speechocean762", "kathleen", "digits")


def write(work: Work, folder: Path, corpora: tuple[str, ...] = CORPORA) -> Path:
    """Write FLAC files and validation.tsv (file, set, speaker, text) of all clips with speech, single digits joined to
    strings; return the table. An existing table is kept."""
    table = folder / "validation.tsv"
    if table.exists():
        return table
    lines = ["file\tset\tspeaker\ttext"]
    folder.mkdir(parents=True, exist_ok=True)
    for number, clip in enumerate(validation(Speech(work))):
        if clip.text and clip.corpus in corpora:
            name = f"{clip.corpus}-{number:04}.flac"
            soundfile.write(folder / name, clip.samples, RATE)
            lines.append(f"{name}\t{clip.corpus}\t{clip.speaker}\t{clip.text}")
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of the training run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpora", nargs="+", default=CORPORA)
    given = parser.parse_args()
    print(write(Work(Path(), given.work), given.out, tuple(given.corpora)))
