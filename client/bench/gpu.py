"""`xlsr-live bench gpu`: everything about a GPU that only a GPU can tell, in one command."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ...streaming.config import SessionConfig
from ..console import needs

if TYPE_CHECKING:
    import torch

    from ...streaming.model.encoder import XlsrEncoder
    from .gpu_times import PassTime, StepTime

EPILOG = """\b
Examples:
  xlsr-live bench gpu
  xlsr-live bench gpu --size 300m --out results/
  xlsr-live bench gpu --device cpu --size tiny --seconds 2      try the command itself
"""
BOUND: Final = 0.5  # seconds: p95 of a step's latency
# Dense bf16 or fp16, operations a second, from NVIDIA's data sheets (without sparsity; the SXM variants).
PEAK: Final = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12}


@dataclass(slots=True)
class Report:
    """Tables for people; `data` for programs."""

    data: dict[str, Any] = field(default_factory=dict[str, Any])
    failed: int = 0
    tell: Callable[[str], None] = click.echo

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        self.tell(f"\n{title}")
        for row in (columns, *rows):
            first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            self.tell("  ".join(("", row[0].ljust(len(first)), *rest)).rstrip())


@click.command(epilog=EPILOG, short_help="Check and measure a GPU with XLS-R at its published sizes.")
@click.option(
    "--size",
    "sizes",
    type=click.Choice(["300m", "1b", "2b", "tiny"]),
    multiple=True,
    default=("300m", "1b", "2b"),
    show_default=True,
    help="Of the model; random weights. May be given more than once.",
)
@click.option(
    "--device", default="cuda", show_default=True, metavar="NAME", help="cuda, cuda:1, ...; cpu to try the command."
)
@click.option(
    "--dtype",
    type=click.Choice(["bfloat16", "float16"]),
    default="bfloat16",
    show_default=True,
    help="Number format of the measurements.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    metavar="N",
    help="Most utterances in a batch.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.5),
    default=20.0,
    show_default=True,
    help="How long paced streams run in each trial.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Write gpu.json there.")
def gpu(sizes: Sequence[str], device: str, dtype: str, max_batch: int, seconds: float, out: Path | None) -> int:
    """Check that a GPU computes what it should, and measure what it carries.

    Models have random weights at the sizes of XLS-R, which is all that speed depends on. Checks: batches, graphs,
    formats and recalled features against plain passes. Measurements: steps by batch size, whole passes by length,
    stages of a step, memory of an utterance, and live streams at a p95 of 500 ms, simulated from the measured times
    and then really run through the engine. Exit status 1 if a check fails.
    """
    with needs("server", "this benchmark"):
        import torch
    if device != "cpu" and not torch.cuda.is_available():
        raise click.ClickException(
            "no CUDA device is available here; --device cpu --size tiny tries the command itself"
        )
    report = run(sizes, torch.device(device), getattr(torch, dtype), max_batch=max_batch, seconds=seconds)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "gpu.json").write_text(json.dumps(report.data, indent=1), encoding="utf-8")
        click.echo(f"\nwritten: {out / 'gpu.json'}")
    return 1 if report.failed else 0


def run(
    sizes: Sequence[str],
    device: torch.device,
    dtype: torch.dtype,
    *,
    max_batch: int,
    seconds: float,
    repeats: int = 30,
    tell: Callable[[str], None] = click.echo,
) -> Report:
    """All checks and measurements; on a CPU the same code without graphs."""
    import torch

    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else "CPU"
    peak = next((value for key, value in PEAK.items() if key in name.replace("-", " ").split()), None)
    report = Report({"device": name, "torch": torch.__version__, "dtype": str(dtype), "peak_flop_s": peak}, tell=tell)
    tell(f"{name}, torch {torch.__version__}, {dtype}" + ("" if on_gpu else ": no GPU is used, and no graphs"))
    for size in sizes:
        report.data[size] = _measure(report, size, device, dtype, max_batch, seconds, repeats)
        if on_gpu:
            torch.cuda.empty_cache()
    return report


def _measure(
    report: Report, size: str, device: torch.device, dtype: torch.dtype, most: int, seconds: float, repeats: int
) -> dict[str, Any]:
    from . import random_xlsr
    from .gpu_checks import checks
    from .gpu_times import pass_times, stage_times, step_times

    found = list(checks(size, device, dtype))
    report.failed += sum(not check.passed for check in found)
    rows = [(c.name, f"{c.found:.2g}", f"{c.bound:g}", "ok" if c.passed else "FAILED") for c in found]
    report.table(f"{size}: checks", ("what", "found", "bound", ""), rows)

    model = random_xlsr.weights(size, device).to(dtype)
    stages = stage_times(model, most, repeats=repeats)
    total = sum(stages.values())
    rows = [(stage, f"{1e3 * x:.3f}", f"{100 * x / total:.1f} %") for stage, x in stages.items()]
    report.table(f"{size}: stages of a step of {most} utterances, each by itself", ("stage", "ms", "share"), rows)

    encoder, peak = random_xlsr.encoder(size, device, dtype, max_batch=most), report.data["peak_flop_s"]
    steps = step_times(encoder, model.config, peak, repeats=repeats)
    rows = [(str(s.batch), f"{1e3 * s.median:.2f}", f"{1e3 * s.p95:.2f}", _share(s.utilisation)) for s in steps]
    title = f"{size}: steps (hop 480 ms, lookahead 480 ms, left context 4 s)"
    report.table(title, ("batch", "median ms", "p95 ms", "of peak"), rows)
    passes = pass_times(encoder, model.config, peak, repeats=max(1, repeats // 10))
    rows = [
        (f"{p.length:g} s", str(p.batch), f"{1e3 * p.median:.2f}", f"{p.rate:.0f}", _share(p.utilisation))
        for p in passes
    ]
    report.table(f"{size}: whole passes", ("length", "batch", "median ms", "audio s per s", "of peak"), rows)
    return {
        "checks": [check._asdict() for check in found],
        "stages_s": stages,
        "steps": [step._asdict() for step in steps],
        "passes": [each._asdict() for each in passes],
        **_carried(report, size, encoder, steps, passes, seconds),
    }


def _carried(
    report: Report,
    size: str,
    encoder: XlsrEncoder,
    steps: Sequence[StepTime],
    passes: Sequence[PassTime],
    seconds: float,
) -> dict[str, Any]:
    from ...streaming.engine.engine import Engine
    from .gpu_streams import most_streams, paced, simulated

    carried = most_streams(lambda streams: simulated(streams, 30, steps, passes).p95 < BOUND)
    loads = [("simulated from these times", simulated(max(1, carried), 30, steps, passes))]
    slot = encoder.utterance_bytes(SessionConfig())
    engine = Engine(encoder)
    try:
        for streams in sorted({max(1, carried * share // 8) for share in (2, 4, 6, 8)}):
            loads.append(("run through the engine", paced(engine, streams, seconds)))
    finally:
        engine.close()
    rows = [
        (how, str(x.streams), f"{1e3 * x.p50:.0f}", f"{1e3 * x.p95:.0f}", f"{1e3 * x.p95_final:.0f}", _share(x.busy))
        for how, x in loads
    ]
    columns = ("how", "streams", "p50 ms", "p95 ms", "p95 final ms", "device busy")
    report.table(f"{size}: live streams that speak 60 % of the time, from due to answered", columns, rows)
    report.tell(f"\n{size}: each utterance holds {slot / 1e6:.1f} MB while it is spoken")
    return {
        "utterance_bytes": slot,
        "streams_simulated": carried,
        "loads": [{"how": how} | load._asdict() for how, load in loads],
    }


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"
