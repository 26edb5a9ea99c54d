"""What a process and a GPU spend while streams run."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...streaming.errors import ConfigError


@dataclass(slots=True)
class Load:
    """Of the measured time."""

    wall: float = 0.0  # seconds
    cpu: float | None = None  # seconds, all threads; None: not known
    gpu: list[float] = field(default_factory=list[float])  # utilization in percent, once a second
    gpu_bytes: int | None = None  # of the GPU's memory in use at the end, by everybody

    @property
    def cores(self) -> float | None:
        """CPU cores in use, on average."""
        return self.cpu / self.wall if self.cpu is not None and self.wall else None

    def report(self, streams: int) -> dict[str, Any]:
        cores = self.cores
        return {
            "wall_s": self.wall,
            "cpu_s": self.cpu,
            "cores": cores,
            "cpu_s_per_stream_second": None if cores is None else cores / streams,
            "gpu_percent": sum(self.gpu) / len(self.gpu) if self.gpu else None,
            "gpu_bytes": self.gpu_bytes,
        }


class Meter:
    """`begin`, then `look` about every second; `load` is what was used between `begin` and the last `look`.

    `pid` None: this process; 0: none that could be measured (a server elsewhere). Raises `ConfigError`.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._cpu: Callable[[], float | None] = time.process_time
        if pid is not None:
            self._cpu = (lambda: cpu_of(pid)) if pid else (lambda: None)
        self._begun: tuple[float, float | None] | None = None
        self._load = Load()
        if self._cpu() is None and pid:
            raise ConfigError(f"--pid {pid}: the CPU time of that process cannot be read here")

    def begin(self) -> None:
        self._begun = time.monotonic(), self._cpu()
        self._load = Load()

    def look(self) -> None:
        if self._begun is None:
            return
        wall, cpu = self._begun
        now = self._cpu()
        self._load.wall = time.monotonic() - wall
        self._load.cpu = None if now is None or cpu is None else now - cpu
        _look_at_gpu(self._load)

    def load(self) -> Load:
        return self._load


def cpu_of(pid: int) -> float | None:
    """User and system seconds of a process, from Linux's /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int | str = "self") -> float:
    """Resident memory of a process, from Linux's /proc."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _look_at_gpu(load: Load) -> None:
    torch: Any = sys.modules.get("torch")  # without it in this process there is no model here
    if torch is None or not torch.cuda.is_available():
        return
    free, total = torch.cuda.mem_get_info()
    load.gpu_bytes = total - free
    with suppress(ModuleNotFoundError, RuntimeError):  # it needs nvidia-ml-py
        load.gpu.append(float(torch.cuda.utilization()))
