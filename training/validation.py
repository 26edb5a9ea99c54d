"""Write the validation cut as FLAC files and a table, for tools that take recordings.

`python -m training.validation --work WORK --out DIR`
"""

from __future__ import annotations

import argparse
from pathlib import Path

import soundfile

from .prepare import load
from .settings import RATE, Work


def write(work: Work, folder: Path, corpora: list[str]) -> int:
    """FLAC files and validation.tsv (file, set, speaker, text) of utterances in which somebody speaks; their number."""
    samples, utterances = load(work, "real")
    lines = ["file\tset\tspeaker\ttext"]
    folder.mkdir(parents=True, exist_ok=True)
    for u in utterances:
        if u.split == "validation" and u.text and u.corpus in corpora:
            name = f"{u.corpus}-{u.start}.flac"
            soundfile.write(folder / name, samples[u.start : u.start + u.samples], RATE)
            lines.append(f"{name}\t{u.corpus}\t{u.speaker}\t{u.text}")
    (folder / "validation.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines) - 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of the training run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpora", nargs="+", default=["librispeech", "an4", "speechocean762", "kathleen", "fsdd"])
    given = parser.parse_args()
    print(write(Work(Path(), given.work), given.out, given.corpora), "utterances")
