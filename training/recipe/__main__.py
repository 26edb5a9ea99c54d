"""`python -m training` from the repository: all stages in order. Each skips work that is already done."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

STAGES = (
    *("synthesize", "kokoro", "prepare", "train", "decay", "export", "curves"),
    *("lm", "tune", "calibrate", "evaluate", "package"),
)
DEFAULT, SMOKE = STAGES[:-1], STAGES[:7]  # `package` overwrites the packaged model, so it must be named
REPOSITORY = Path(__file__).resolve().parents[2]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    add = parser.add_argument
    add("stages", nargs="*", metavar="STAGE", help=f"any of: {', '.join(STAGES)} (default: all but package)")
    add("--work", type=Path, help="folder for audio, checkpoints and results (default: .training)")
    add("--speech", type=Path, default=REPOSITORY.parent / "shared" / "speech", help="folder of the real speech")
    add("--out", type=Path, help="folder of the exported checkpoint (default: WORK/bundled)")
    add("--synthetic-hours", type=float, default=12.0, help="hours of synthetic speech; 0 for none")
    add("--kokoro", type=Path, metavar="DIR", help="folder with model.onnx and voices.npz of hexgrad/Kokoro-82M")
    add("--kokoro-hours", type=float, default=40.0, help="hours of speech from Kokoro")
    add("--rounds", type=int, default=110, help="rounds (of about an hour of audio) in the stable phase")
    add("--minutes", type=float, default=1e9, help="stop training, with a checkpoint, after so long")
    add("--from", dest="start", type=Path, metavar="DIR", help="begin with the weights of this exported checkpoint")
    add("--teacher", type=Path, metavar="DIR", help="folder of openai/whisper-base: predict its features beside CTC")
    add("--peak", type=float, default=1.0, metavar="SHARE", help="share of the peak rate, for a short continuation")
    add("--decay", type=int, metavar="N", help="rounds of the decay (default: 12); `train --decay N` means `decay`")
    add(
        "--decays",
        type=int,
        default=1,
        metavar="N",
        help="export the mean of the latest N decays' weights (default: 1)",
    )
    add(
        "--mean-with", type=Path, action="append", default=[], metavar="DIR", help="take this export into the mean, too"
    )
    add("--within", type=float, default=1e9, metavar="MINUTES", help="end a decay after so long at the latest")
    add("--batch-seconds", type=float, help="padded audio per step (default: 32 on a CPU, 320 on a CUDA GPU)")
    add("--workers", type=int, help="processes that prepare batches (default: none on a CPU)")
    add("--evaluate-every", type=int, default=10, metavar="ROUNDS")
    add("--matrices", choices=("muon", "adamw"), default="muon", help="optimiser of the transformer's matrices")
    add("--streamed-share", type=float, default=0.25, help="share of the steps with live attention")
    add("--threads", type=int, help="threads of a CPU that share a step (default: all cores; 1 with a GPU)")
    add("--lm-order", type=int, default=4)
    add("--lm-prune", type=int, nargs="+", default=[0, 0, 1, 1], metavar="N", help="drop n-grams seen at most N times")
    add("--lm-words", type=int, default=60_000, help="most frequent words of the texts to keep")
    add("--smoke", action="store_true", help=f"{', '.join(SMOKE)} on a scrap of the data, in .training-smoke")
    args = parser.parse_args()
    if unknown := set(args.stages) - set(STAGES):
        parser.error(f"no such stage: {', '.join(sorted(unknown))} (there are {', '.join(STAGES)})")
    if args.decays < 1:
        parser.error("--decays must be at least 1")
    if not (args.speech / "train" / "train.tsv").exists():
        parser.error(f"no train/train.tsv in {args.speech}: name the folder of the speech with --speech")
    for folder in args.mean_with:
        if not (folder / "model.safetensors").exists():
            parser.error(f"no exported checkpoint in {folder}: --mean-with takes a folder that `export` wrote")
    if args.teacher and not (args.teacher / "preprocessor_config.json").exists():
        parser.error(f"no Whisper checkpoint in {args.teacher}: download openai/whisper-base and name its folder")
    args.work = args.work or REPOSITORY / (".training-smoke" if args.smoke else ".training")
    args.out = args.out or args.work / "bundled"
    args.named = bool(args.stages)
    args.stages = args.stages or list(SMOKE if args.smoke else DEFAULT)
    if args.decay and "decay" not in args.stages:
        args.stages = ["decay" if stage == "train" else stage for stage in args.stages]
    return args


def lacking(stage: str, args: argparse.Namespace) -> str:
    """The requirements of a stage that are missing, as text; empty if there are none."""
    modules = {
        "kokoro": ("onnxruntime", "kokoro_onnx"),
        "curves": ("matplotlib",),
        "tune": ("xlsr_live",),
        "calibrate": ("xlsr_live", "jiwer", "matplotlib"),
        "evaluate": ("xlsr_live", "jiwer"),
    }
    missing = [f"the module {name}" for name in modules.get(stage, ()) if not find_spec(name)]
    if stage == "kokoro" and not args.kokoro:
        missing.append("--kokoro DIR")
    if stage == "lm" and not (args.work / "kenlm" / "build").exists():
        missing += [f"the program {name}" for name in ("cmake", "c++") if not shutil.which(name)]
    if stage == "tune" and not (args.work / "lm" / "words.binary").exists():
        missing.append("the output of `lm`")
    return ", ".join(missing)


def main() -> None:
    args = arguments()
    # Waiting threads must not spin: beside other programs, spinning makes a step about three times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Every batch has its own shape; without a limit the cached kernels fill 4 GB of memory.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    for stage in STAGES:
        if stage in args.stages:
            missing = lacking(stage, args)
            if missing and args.named:
                sys.exit(f"{stage} needs {missing}")
            if missing:
                print(f"skipped: {stage} needs {missing}", flush=True)
            else:
                run(stage, args)


def run(stage: str, args: argparse.Namespace) -> None:
    """Each stage is imported when it runs: training on prepared audio needs neither audio libraries nor matplotlib."""
    from .settings import Work

    work = Work(args.speech, args.work, scrap=args.smoke)
    language_model = work.root / "lm" / "words.binary"
    if stage == "synthesize" and args.synthetic_hours:
        from .synthesize import synthesize

        synthesize(work, 0.02 if args.smoke else args.synthetic_hours)
    if stage == "kokoro":
        from .kokoro import synthesize as read_aloud

        read_aloud(work, args.kokoro, 0.005 if args.smoke else args.kokoro_hours)
    if stage == "prepare":
        from .prepare import prepare

        prepare(work)
    if stage in ("train", "decay"):
        train(work, args, decay=0 if stage == "train" else 1 if args.smoke else args.decay or 12)
    if stage == "export":
        from .export import export

        size = export(work, args.out, decays=args.decays, others=args.mean_with)
        print(f"{args.out}: {size:,} bytes of weights")
    if stage == "curves":
        from .curves import draw

        draw(work, work.root / "curves.png")
    if stage == "lm":
        from .lm import build

        print(build(work, args.lm_order, tuple(args.lm_prune), args.lm_words))
    if stage == "tune":
        import json

        from .tune import tune
        from .validation import write

        result = tune(work, args.out, write(work, work.root / "validation"))
        (work.root / "tune.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"n-gram {result['lm']}, word {result['word']}")
    if stage == "calibrate":
        from ...client.cli import run
        from .validation import write

        table = write(work, work.root / "validation")
        options = ["--plot", str(work.root / "reliability.png"), "--threads", str(args.threads or os.cpu_count() or 1)]
        options += ["--lm", str(language_model)] if language_model.exists() else []
        if code := run(["calibrate", str(args.out), str(table), *options]):
            sys.exit(code)
    if stage == "evaluate":
        command = [sys.executable, "-m", "tests.figures.measure_bundled", args.out.resolve()]
        command += ["--speech", args.speech.resolve()]
        command += ["--lm", language_model.resolve()] if language_model.exists() else []
        subprocess.run(command, check=True, cwd=REPOSITORY)
    if stage == "package":
        from .export import package

        package(work, args.out, REPOSITORY / "streaming" / "bundled")


def train(work, args: argparse.Namespace, decay: int) -> None:
    """Run the stable phase, or `decay` rounds of decay. Exits if training stopped before the end."""
    import torch

    from .settings import Options, Schedule
    from .train import Trainer

    cuda = torch.cuda.is_available()
    shards = args.threads or (1 if cuda else os.cpu_count() or 1)
    options = Options(
        rounds=args.rounds,
        minutes=args.minutes,
        peak=args.peak,
        teacher=args.teacher,
        start=args.start,
        within=args.within,
        decay=decay,
        batch_seconds=args.batch_seconds or (320.0 if cuda else 32.0),
        shards=shards,
        workers=args.workers if args.workers is not None else (12 if cuda else 0),
        evaluate_every=args.evaluate_every,
        matrices=args.matrices,
        streamed_share=args.streamed_share,
    )
    if args.smoke:
        schedule = Schedule(round_hours=0.02)
        options = replace(options, rounds=1, batch_seconds=20.0, evaluate_every=1, schedule=schedule)
    # Each thread computes its own part of a step, so operations use one thread.
    torch.set_num_threads(1)
    trainer = Trainer(work, options)
    if not trainer.run():
        sys.exit(f"stopped in round {trainer.round}, saved in {trainer.path}: the same command goes on from there")
    torch.set_num_threads(shards)


if __name__ == "__main__":
    main()
