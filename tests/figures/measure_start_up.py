"""CPU seconds of `xlsr-live transcribe` of four seconds of speech: nearly all of them are the start.

    python -m tests.figures.measure_start_up [TREE ...]

Compares source trees of this project (by default this one), in turns, each in new processes. Prints the CPU time of
each, user and system, and the number of modules that it imports.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import soundfile

from tests.support.paths import ROOT

CLIP = ROOT / "client" / "clips" / "digits.flac"
SECONDS, TURNS = 4, 5
LAYERS = ("streaming", "server", "client", "training")


def run(arguments: list[str], environment: dict[str, str]) -> tuple[float, str]:
    """CPU seconds of a process, and its stderr."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stderr


def main(trees: list[Path]) -> None:
    with TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.wav"
        samples, rate = soundfile.read(CLIP, dtype="int16")
        soundfile.write(clip, samples[: SECONDS * rate], rate)
        environments: dict[Path, dict[str, str]] = {}
        for number, tree in enumerate(trees):
            package = Path(folder) / str(number) / "xlsr_live"
            package.mkdir(parents=True)
            for layer in LAYERS:
                (package / layer).symlink_to(tree.resolve() / layer)
            environments[tree] = os.environ | {"PYTHONPATH": str(package.parent)}
        command = ["-m", "xlsr_live.client.cli", "transcribe", str(clip)]
        taken: dict[Path, list[float]] = {tree: [] for tree in trees}
        for _ in range(TURNS):
            for tree in trees:
                taken[tree].append(run([sys.executable, *command], environments[tree])[0])
        for tree in trees:
            _, imports = run([sys.executable, "-X", "importtime", *command], environments[tree])
            modules = sum(line.startswith("import time:") for line in imports.splitlines())
            low, middle = min(taken[tree]), statistics.median(taken[tree])
            print(f"{tree}: {low:.2f} s of CPU at least, {middle:.2f} s in the middle of {TURNS}; {modules} modules")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or [ROOT])
