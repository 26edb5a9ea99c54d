"""Speed of a GPU: `python -m tests.figures.measure_gpu [--size 300m] [--out FOLDER]`.

Not part of the test suite; `pytest -m gpu` checks the results of the device. Models have random weights at the sizes of
XLS-R, because only the size determines the speed. It measures steps by batch size, full passes by length, the stages of
a step, the memory of an utterance, and live streams at a p95 of 500 ms: simulated from the measured times, then run
through the engine. `--device cpu --size tiny --seconds 2` tests the program itself.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from xlsr_live.client.bench.tables import Table
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.model.encoder import XlsrEncoder

from tests.figures.gpu_streams import most_streams, paced, simulated
from tests.figures.gpu_times import PassTime, StepTime, pass_times, stage_times, step_times
from tests.support import random_xlsr

BOUND: Final = 0.5  # seconds: p95 of a step's latency
# Dense bf16 or fp16, operations a second, from NVIDIA's data sheets (without sparsity; the SXM variants).
PEAK: Final = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12}


@dataclass(slots=True)
class Report:
    """Printed tables, and the same figures in `data`."""

    data: dict[str, Any] = field(default_factory=dict)
    write: Callable[[str], None] = print

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.write(Table(title, columns, rows).markdown())


def run(
    sizes: Sequence[str],
    device: torch.device,
    dtype: torch.dtype,
    *,
    max_batch: int,
    seconds: float,
    repeats: int = 30,
    write: Callable[[str], None] = print,
) -> Report:
    """Run all measurements. A CPU runs the same code without graphs."""
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else "CPU"
    peak = next((value for key, value in PEAK.items() if key in name.replace("-", " ").split()), None)
    report = Report({"device": name, "torch": torch.__version__, "dtype": str(dtype), "peak_flop_s": peak}, write)
    write(f"{name}, torch {torch.__version__}, {dtype}" + ("" if on_gpu else ": no GPU is used, and no graphs") + "\n")
    for size in sizes:
        report.data[size] = measure(report, size, device, dtype, max_batch, seconds, repeats)
        if on_gpu:
            torch.cuda.empty_cache()
    return report


def measure(
    report: Report, size: str, device: torch.device, dtype: torch.dtype, most: int, seconds: float, repeats: int
) -> dict[str, Any]:
    model = random_xlsr.weights(size, device).to(dtype)
    stages = stage_times(model, most, repeats=repeats)
    total = sum(stages.values())
    rows = [(stage, f"{1e3 * x:.3f}", f"{100 * x / total:.1f} %") for stage, x in stages.items()]
    report.table(f"{size}: stages of a step of {most} utterances, each by itself", ("stage", "ms", "share"), rows)

    encoder, peak = random_xlsr.encoder(size, device, dtype, max_batch=most), report.data["peak_flop_s"]
    steps = step_times(encoder, model.config, peak, repeats=repeats)
    rows = [(str(s.batch), f"{1e3 * s.median:.2f}", f"{1e3 * s.p95:.2f}", share(s.utilisation)) for s in steps]
    title = f"{size}: steps (hop 480 ms, lookahead 480 ms, left context 4 s)"
    report.table(title, ("batch", "median ms", "p95 ms", "of peak"), rows)
    passes = pass_times(encoder, model.config, peak, repeats=max(1, repeats // 10))
    rows = [
        (f"{p.length:g} s", str(p.batch), f"{1e3 * p.median:.2f}", f"{p.rate:.0f}", share(p.utilisation))
        for p in passes
    ]
    report.table(f"{size}: full passes", ("length", "batch", "median ms", "audio s per s", "of peak"), rows)
    return {
        "stages_s": stages,
        "steps": [step._asdict() for step in steps],
        "passes": [each._asdict() for each in passes],
        **measure_streams(report, size, encoder, steps, passes, seconds),
    }


def measure_streams(
    report: Report,
    size: str,
    encoder: XlsrEncoder,
    steps: Sequence[StepTime],
    passes: Sequence[PassTime],
    seconds: float,
) -> dict[str, Any]:
    carried = most_streams(lambda streams: simulated(streams, 30, steps, passes).p95 < BOUND)
    loads = [("simulated from these times", simulated(max(1, carried), 30, steps, passes))]
    slot = encoder.utterance_bytes(SessionConfig())
    engine = Engine(encoder)
    try:
        for streams in sorted({max(1, carried * eighths // 8) for eighths in (2, 4, 6, 8)}):
            loads.append(("run through the engine", paced(engine, streams, seconds)))
    finally:
        engine.close()
    rows = [
        (how, str(x.streams), f"{1e3 * x.p50:.0f}", f"{1e3 * x.p95:.0f}", f"{1e3 * x.p95_final:.0f}", share(x.busy))
        for how, x in loads
    ]
    columns = ("how", "streams", "p50 ms", "p95 ms", "p95 final ms", "device busy")
    report.table(f"{size}: live streams that speak 60 % of the time, from due to answered", columns, rows)
    report.write(f"{size}: each utterance holds {slot / 1e6:.1f} MB during its speech\n")
    return {
        "utterance_bytes": slot,
        "streams_simulated": carried,
        "loads": [{"how": how} | load._asdict() for how, load in loads],
    }


def share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = ("300m", "1b", "2b", "tiny")
    parser.add_argument("--size", dest="sizes", action="append", choices=sizes, help="repeatable")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ..., or cpu")
    parser.add_argument("--dtype", choices=("bfloat16", "float16"), default="bfloat16")
    parser.add_argument("--max-batch", type=int, default=128, metavar="N", help="most utterances in a batch")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long paced streams run in each trial")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write gpu.json there")
    options = parser.parse_args()
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error("no CUDA device is available here; --device cpu --size tiny tests the program itself")
    report = run(
        options.sizes or sizes[:3],
        torch.device(options.device),
        getattr(torch, options.dtype),
        max_batch=options.max_batch,
        seconds=options.seconds,
    )
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "gpu.json").write_text(json.dumps(report.data, indent=1), encoding="utf-8")
        print(f"written: {options.out / 'gpu.json'}")


if __name__ == "__main__":
    main()
