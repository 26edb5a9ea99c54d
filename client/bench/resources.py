"""The CPU time, memory and GPU use of a process while streams run."""

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
class ResourceUsage:
    """Resources used in the measured time."""

    wall: float = 0.0  # seconds
    cpu: float | None = None  # seconds, all threads; None: unknown
    gpu: list[float] = field(default_factory=list[float])  # utilization in percent, once a second
    gpu_bytes: int | None = None  # GPU memory in use at the end, by all processes

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


class ResourceMeter:
    """Call `start`, then `sample` about once a second; `usage` covers the time up to the last sample.

    `pid` None is this process; 0 is no process (a server on another machine). Raises `ConfigError`.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._cpu: Callable[[], float | None] = time.process_time
        if pid is not None:
            self._cpu = (lambda: cpu_of(pid)) if pid else (lambda: None)
        self._start: tuple[float, float | None] | None = None
        self._usage = ResourceUsage()
        if self._cpu() is None and pid:
            raise ConfigError(f"--pid {pid}: cannot read the CPU time of that process")

    def start(self) -> None:
        self._start = time.monotonic(), self._cpu()
        self._usage = ResourceUsage()

    def sample(self) -> None:
        if self._start is None:
            return
        wall, cpu = self._start
        now = self._cpu()
        self._usage.wall = time.monotonic() - wall
        self._usage.cpu = None if now is None or cpu is None else now - cpu
        _sample_gpu(self._usage)

    def usage(self) -> ResourceUsage:
        return self._usage


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


def _sample_gpu(usage: ResourceUsage) -> None:
    torch: Any = sys.modules.get("torch")  # without torch this process runs no model
    if torch is None or not torch.cuda.is_available():
        return
    free, total = torch.cuda.mem_get_info()
    usage.gpu_bytes = total - free
    with suppress(ModuleNotFoundError, RuntimeError):  # needs nvidia-ml-py
        usage.gpu.append(float(torch.cuda.utilization()))
