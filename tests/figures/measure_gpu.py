"""Checks and measures a GPU: `python -m tests.figures.measure_gpu --out FOLDER [--size 300m] [--minutes 10]`.

One command: figures are printed as they come and appended to `FOLDER/gpu.jsonl`. Run it again to continue where it
stopped: finished steps are skipped, and a step that failed is not tried again unless `--retry` is given. A step that
breaks the device ends the process, and a new one takes over. Models have random weights at the sizes of XLS-R, because
only the size determines the speed. `--device cpu --size tiny --minutes 1` tests the program itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from tests.figures.gpu_steps import STEPS, Bench

# Dense bf16 or fp16, operations a second, from NVIDIA's data sheets (without sparsity). The first that is in the name.
PEAK: Final = {
    "B200": 2_250e12, "GH200": 989e12, "H200 NVL": 835e12, "H200": 989e12, "H100 NVL": 835e12, "H100 PCIe": 756e12,
    "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12,
}  # fmt: skip
TESTS_S: Final = 180.0  # at most, for `pytest -m gpu`
SIZES: Final = ("300m", "1b", "2b", "tiny")


def peak(name: str) -> float | None:
    """Of the device with that name, as torch gives it."""
    words = f" {name.replace('-', ' ')} "
    return next((value for key, value in PEAK.items() if f" {key} " in words), None)


@dataclass
class Figures:
    """A file with a line for each figure, and for the end of each step."""

    file: Path
    settings: dict[str, Any]  # of every line; lines with others are of another run
    write: Callable[[str], None] = print
    retry: bool = False
    ended: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])  # size and step

    def __post_init__(self) -> None:
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        for line in map(json.loads, lines):
            if (
                line.items() >= self.settings.items()
                and "ended" in line
                and not (self.retry and line["ended"] == "failed")
            ):
                self.ended.add((line["size"], line["step"]))

    def add(self, size: str, step: str, found: dict[str, Any]) -> None:
        with self.file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(self.settings | {"size": size, "step": step} | found) + "\n")
        self.write(f"{size} {step}: " + ", ".join(f"{name} {short(value)}" for name, value in found.items()))

    def run(self, size: str, step: str, measure: Callable[[], Iterable[dict[str, Any]]]) -> bool:
        """Add the figures of a step as they come; False if it fails."""
        began = time.monotonic()
        try:
            for found in measure():
                self.add(size, step, found)
        except Exception as error:
            self.ended.add((size, step))
            message = f"{type(error).__name__}: {error}".splitlines()[0]
            self.add(size, step, {"ended": "failed", "error": message, "s": time.monotonic() - began})
            return False
        self.ended.add((size, step))
        self.add(size, step, {"ended": "done", "s": time.monotonic() - began})
        return True


def short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(short, value)) + "]"
    return str(value)


def run(figures: Figures, benches: Iterable[Bench], until: float, *, restart: Callable[[], object]) -> bool:
    """Run the steps that have not ended, until that time of `time.monotonic`; True if all have ended.

    Calls `restart` after a failure on a GPU, whose later calls may all fail.
    """
    for bench in benches:
        for name, step in STEPS.items():
            if (bench.size, name) in figures.ended:
                continue
            if time.monotonic() > until:
                figures.write("the time is up: run it again for the rest")
                return False
            if not figures.run(bench.size, name, lambda step=step, bench=bench: step(bench)) and bench.on_gpu:
                restart()
    return True


def device_tests(device: torch.device, sizes: Sequence[str]) -> Iterable[dict[str, Any]]:
    """`pytest -m gpu` in a process of its own."""
    chosen = " or ".join(f"cuda-{size}" for size in ("tiny", *sizes)) + " or on_a_gpu or gathered"
    options = ["-q", "-o", "addopts=--import-mode=importlib", "-m", "gpu", "-k", chosen]
    command = [sys.executable, "-m", "pytest", *options, "tests/streaming/model"]
    if device.type != "cuda":
        command += ["--collect-only"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TESTS_S, check=False)
    except subprocess.TimeoutExpired as error:
        yield {"exit": None, "last": f"stopped after {error.timeout:g} s"}
        return
    lines = done.stdout.splitlines()
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            yield {"failed": line}
    yield {"exit": done.returncode, "last": lines[-1] if lines else done.stderr[-300:]}


def main(arguments: Sequence[str] | None = None) -> None:
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FOLDER", required=True, help="for gpu.jsonl")
    parser.add_argument("--size", dest="sizes", action="append", choices=SIZES, help="repeatable [300m, then 1b, 2b]")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ..., or cpu")
    parser.add_argument("--dtype", choices=("bfloat16", "float16"), default="bfloat16")
    parser.add_argument("--max-batch", type=int, default=256, metavar="N", help="most utterances in a batch")
    parser.add_argument("--minutes", type=float, default=9.5, help="no step begins later")
    parser.add_argument("--retry", action="store_true", help="try steps again that failed")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device is available here; --device cpu --size tiny tests the program itself")
    sizes = options.sizes or SIZES[:3]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    options.out.mkdir(parents=True, exist_ok=True)
    settings = {"device": name, "torch": torch.__version__, "dtype": options.dtype, "max_batch": options.max_batch}
    figures = Figures(options.out / "gpu.jsonl", settings, retry=options.retry)
    benches = (Bench(size, device, getattr(torch, options.dtype), options.max_batch, peak=peak(name)) for size in sizes)
    if ("", "tests") not in figures.ended:
        figures.run("", "tests", lambda: device_tests(device, sizes[:1]))

    def restart() -> None:
        left = options.minutes - (time.monotonic() - began) / 60
        # Without --retry, since the failure that led here is among those that it tries again.
        command = [word for word in arguments or sys.argv[1:] if word != "--retry"]
        os.execv(
            sys.executable, [sys.executable, "-m", "tests.figures.measure_gpu", *command, "--minutes", f"{left:.2f}"]
        )

    run(figures, benches, began + 60 * options.minutes, restart=restart)


if __name__ == "__main__":
    main()
