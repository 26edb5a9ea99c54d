"""A small multilingual checkpoint beside the packaged English model, in all stages; each keeps finished work.

read: Kokoro-82M and espeak-ng read phrases in six languages. train: the adapter and head of each language but English,
with `xlsr-live finetune --adapter`. join: the adapters and their letters alone, to --out; and the whole checkpoint, to
WORK/checkpoint. calibrate: the probabilities of languages, on the recordings for development, in both places. lid: a
head that identifies the language, on the recordings for training, to OUT/lid.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch

from ....client.bench.corpus import read_corpus
from ....client.cli import run
from ...export import ADAPTER
from .checkpoint import CALIBRATIONS, LETTERS, LID, begin, join, keep
from .lid import choose_penalty, collect, fit, save
from .phrases import LANGUAGES
from .speech import read_phrases

STAGES: Final = ("read", "train", "join", "calibrate", "lid")
STEPS: Final = 400  # updates of 32 s
MOST: Final = 16  # recordings of a table for the calibration of languages
HEADER: Final = "file\ttext\tspeaker\tlanguage"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m xlsr_live.training.recipe.multilingual", description=__doc__)
    add = parser.add_argument
    add("stages", nargs="*", metavar="STAGE", help=f"any of: {', '.join(STAGES)} (default: all)")
    add("--work", type=Path, default=Path(".multilingual"), help="folder for audio and runs (default: %(default)s)")
    add("--out", type=Path, help="folder for the adapters alone (default: WORK/adapters)")
    add("--base", default="bundled", metavar="NAME_OR_DIR", help="the English model (default: the packaged one)")
    add("--kokoro", type=Path, metavar="DIR", help="folder with model.onnx and voices.npz of hexgrad/Kokoro-82M")
    add("--recordings", type=int, default=24, help="of Kokoro for the training of a language (default: %(default)s)")
    add("--espeak", type=int, default=250, help="of espeak-ng for the same (default: %(default)s)")
    add(
        "--real",
        nargs="*",
        default=[],
        metavar="CODE=DIR",
        help="real speech of a language: a folder with train.tsv and dev.tsv (file, text, speaker)",
    )
    add("--languages", nargs="*", default=list(LETTERS), metavar="CODE", help="languages to train (default: all)")
    add("--from", dest="start", type=Path, metavar="DIR", help="begin with these adapters (an earlier --out)")
    add("--noise", type=Path, metavar="DIR", help="recordings without speech, as for finetune")
    add("--steps", type=int, help="updates for each language (default: 400)")
    add("--minutes", type=float, help="end the training of a language after so long at the latest")
    add("--each-speaker", type=int, default=10, help="recordings of a speaker for lid, at most (default: %(default)s)")
    add("--threads", type=int, default=1, help="threads of the training (default: %(default)s)")
    args = parser.parse_args()
    args.real = dict(each.partition("=")[::2] for each in args.real)
    args.stages = args.stages or list(STAGES)
    args.out = args.out or args.work / "adapters"
    if (
        unknown := (set(args.stages) - set(STAGES))
        | (set(args.languages) - set(LETTERS))
        | (set(args.real) - set(LANGUAGES))
    ):
        parser.error(f"no such stage or language: {', '.join(sorted(unknown))}")
    if "read" in args.stages and not args.kokoro:
        parser.error("read needs --kokoro DIR")
    return args


def main() -> None:
    args = arguments()
    if "read" in args.stages:
        read_phrases(args.work / "speech", args.kokoro, args.recordings, args.espeak)
    if "train" in args.stages:
        train(args)
    if "join" in args.stages:
        runs = {language: args.work / f"run-{language}" for language in LETTERS}
        done = {language: folder for language, folder in runs.items() if (folder / "vocab.json").exists()}
        keep(args.base, done, args.out)
        join(args.base, args.out, args.work / "checkpoint")
    if "calibrate" in args.stages:
        table = args.work / "dev.tsv"
        write_table(table, {language: tables(args, language, "dev") for language in LANGUAGES}, MOST)
        _xlsr_live("calibrate", args.work / "checkpoint", table, "--language", "auto", "--threads", args.threads)
        shutil.copytree(args.work / "checkpoint" / CALIBRATIONS, args.out / CALIBRATIONS, dirs_exist_ok=True)
    if "lid" in args.stages:
        identify(args)


def identify(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    sources = {language: tables(args, language, "train") for language in sorted(LANGUAGES)}
    beginnings = collect(args.base, sources, args.each_speaker)
    penalty, loss, right = choose_penalty(beginnings, len(sources))
    print(f"speakers outside the fit: {100 * right:.1f} % right, {loss:.2f} nats, with a penalty of {penalty:g}")
    save(fit(beginnings, len(sources), penalty), list(sources), args.base, args.out / LID)


def train(args: argparse.Namespace) -> None:
    """One run for each language; a finished run is kept, an interrupted one continues."""
    if not (args.work / "begin").exists():
        if args.start:
            join(args.base, args.start, args.work / "begin")
        else:
            begin(args.base, args.work / "begin")
    for language in args.languages:
        out = args.work / f"run-{language}"
        if (out / ADAPTER.format(language)).exists():
            continue
        for split in ("train", "dev"):
            table = args.work / f"{language}-{split}.tsv"
            if not table.exists():  # an interrupted run continues with the same recordings
                write_table(table, {language: tables(args, language, split)})
        options = ["--steps", args.steps or STEPS, "--rate", 2, "--threads", args.threads]
        options += ["--minutes", args.minutes] if args.minutes else []
        options += ["--noise", args.noise] if args.noise else []
        data = ["--data", args.work / f"{language}-train.tsv", "--validation", args.work / f"{language}-dev.tsv"]
        _xlsr_live("finetune", args.work / "begin", "--adapter", language, *data, "--out", out, *options)


def tables(args: argparse.Namespace, language: str, split: str) -> list[Path]:
    """The tables of a language's recordings: synthetic and real ones."""
    real = [Path(args.real[language]) / f"{split}.tsv"] if language in args.real else []
    return [args.work / "speech" / language / f"{split}.tsv", *real]


def write_table(path: Path, sources: dict[str, list[Path]], most: int | None = None) -> None:
    """One table of `most` recordings of each of several, with absolute paths and languages."""
    lines = [HEADER]
    for language, listed in sources.items():
        for each in (each for table in listed for each in read_corpus(table, limit=most)):
            lines.append(f"{each.path.resolve()}\t{each.text}\t{each.speaker}\t{language}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _xlsr_live(*words: object) -> None:
    command: Sequence[str] = [str(word) for word in words]
    if code := run(command):
        sys.exit(code)


if __name__ == "__main__":
    main()
