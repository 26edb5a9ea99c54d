"""`python -m training` from the repository: every stage in order, each skipping what is already done."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

STAGES = ("synthesize", "prepare", "train", "export", "curves", "evaluate", "lm", "tune", "calibrate")
DEFAULT_STAGES = STAGES[:-3]  # the language model needs a compiler
REPOSITORY = Path(__file__).resolve().parent.parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    add = parser.add_argument
    add("stages", nargs="*", metavar="STAGE", help=f"any of: {', '.join(STAGES)} (default: all before lm)")
    add("--work", type=Path, default=REPOSITORY / ".training", help="folder for audio, checkpoints and results")
    add("--speech", type=Path, default=REPOSITORY.parent / "shared" / "speech", help="folder of the real speech")
    add("--out", type=Path, help="folder of the exported checkpoint (default: WORK/bundled)")
    add("--synthetic-hours", type=float, default=12.0, help="hours of synthetic speech; 0 for none")
    add("--rounds", type=int, default=400, help="rounds (of about an hour of audio) in the stable phase")
    add("--minutes", type=float, default=1e9, help="stop training, with a checkpoint, after this long")
    add("--decay", type=int, default=0, metavar="ROUNDS", help="leave the stable phase: let the rate fall to zero")
    add("--batch-seconds", type=float, help="padded audio per step (default: 32 on a CPU, 320 on a CUDA GPU)")
    add("--workers", type=int, help="processes that prepare batches (default: none on a CPU)")
    add("--evaluate-every", type=int, default=10, metavar="ROUNDS")
    add("--warm", type=Path, help="checkpoint folder: copy every tensor that fits before the first step")
    add("--matrices", choices=("muon", "adamw"), default="muon", help="optimiser of the transformer's matrices")
    add("--threads", type=int, help="threads of a CPU that share a step (default: all cores; 1 with a GPU)")
    add("--lm-order", type=int, default=4)
    add("--lm-prune", type=int, nargs="+", default=[0, 0, 1, 2], metavar="N", help="drop n-grams seen at most N times")
    add("--lm-words", type=int, default=60_000, help="most frequent words of the text to keep")
    add("--smoke", action="store_true", help="every stage on a scrap of the data, in less than a minute")
    args = parser.parse_args()
    if unknown := set(args.stages) - set(STAGES):
        parser.error(f"no such stage: {', '.join(sorted(unknown))} (there are {', '.join(STAGES)})")
    if not (args.speech / "train" / "train.tsv").exists():
        parser.error(f"no train/train.tsv in {args.speech}: name the folder of the speech with --speech")
    return args


def main() -> None:
    args = arguments()
    # Threads that wait must not spin: where other programs run too, spinning made steps about three times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Every batch has its own shape, and kernels kept for each of them filled 4 GB of memory.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    import torch

    from .settings import Options, Schedule, Work

    cuda = torch.cuda.is_available()
    shards = args.threads or (1 if cuda else os.cpu_count() or 1)
    work = Work(args.speech, args.work, scrap=args.smoke)
    out = args.out or work.root / "bundled"
    options = Options(
        rounds=1 if args.smoke else args.rounds,
        minutes=args.minutes,
        decay=args.decay,
        batch_seconds=args.batch_seconds or (20.0 if args.smoke else 320.0 if cuda else 32.0),
        shards=shards,
        workers=args.workers if args.workers is not None else (12 if cuda else 0),
        evaluate_every=1 if args.smoke else args.evaluate_every,
        warm=args.warm,
        matrices=args.matrices,
        schedule=Schedule(round_hours=0.02) if args.smoke else Schedule(),
    )
    stages = args.stages or DEFAULT_STAGES
    # Each stage is imported when it runs: training on prepared audio needs neither audio libraries nor matplotlib.
    if "synthesize" in stages and args.synthetic_hours:
        from .synthesize import synthesize

        synthesize(work, 0.02 if args.smoke else args.synthetic_hours)
    if "prepare" in stages:
        from .prepare import prepare

        prepare(work)
    if "train" in stages:
        from .train import Trainer

        # Threads that each compute a part of a step need not meet in every operation.
        torch.set_num_threads(1)
        Trainer(work, options).run()
        torch.set_num_threads(shards)
    if "export" in stages:
        from .export import export

        print(f"{out}: {export(work, out):,} bytes of weights")
    if "curves" in stages:
        from .curves import draw

        draw(work, work.root / "curves.png")
    if "evaluate" in stages:
        from .evaluate import by_level, evaluate, report, save

        limit = 2 if args.smoke else None
        result = evaluate(work.speech, out, limit) | {"levels": by_level(work, out, limit)}
        save(result, work.root / "test.json")
        print(report(result))
    if "lm" in stages:
        from .lm import build

        print(build(work, args.lm_order, tuple(args.lm_prune), args.lm_words))
    if "tune" in stages:
        import json

        from .tune import tune
        from .validation import write

        result = tune(work, out, write(work, work.root / "validation"))
        (work.root / "tune.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"n-gram {result['lm']}, word {result['word']}")
    if "calibrate" in stages:
        from xlsr_live.client.cli import run

        from .validation import write

        words, table = work.root / "lm" / "words.binary", write(work, work.root / "validation")
        plot = ["--plot", str(work.root / "reliability.png"), "--threads", str(shards)]
        raise SystemExit(run(["calibrate", str(out), str(table), "--lm", str(words), *plot]))


if __name__ == "__main__":
    main()
