"""`xlsr-live serve` in a process of its own, observed from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from prometheus_client.parser import text_string_to_metric_families
from xlsr_live.client.bench.resources import cpu_of, resident_mib
from xlsr_live.client.console import waiting
from xlsr_live.client.proxies import open_url
from xlsr_live.streaming.errors import ConfigError, XlsrLiveError

STOP_S: Final = 60.0  # for a graceful stop
READY: Final = "xlsr-live is ready: "


@dataclass(frozen=True, slots=True)
class SoakServer:
    """A server process on this machine."""

    url: str  # ws://127.0.0.1:PORT/v1/stream
    process: subprocess.Popen[str]
    log: Path

    def resident_mib(self) -> float:
        """Resident memory. Raises `XlsrLiveError` if the process ended."""
        self.check()
        return resident_mib(self.process.pid)

    def cpu_s(self) -> float:
        """CPU seconds of all threads since the start. Raises `XlsrLiveError` if the process ended."""
        self.check()
        return cpu_of(self.process.pid) or 0.0

    def metrics(self) -> dict[str, float]:
        """The samples of `/metrics`, with names like `xlsr_live_errors_total{"code": "bad_audio"}`."""
        address = self.url.replace("ws://", "http://").replace("/v1/stream", "/metrics")
        try:
            with open_url(address, timeout=STOP_S) as answer:
                text: str = answer.read().decode()
        except OSError as error:
            self.check()
            raise XlsrLiveError(f"{address}: {error}") from None
        return {
            sample.name + (json.dumps(sample.labels) if sample.labels else ""): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def check(self) -> None:
        """Raises `XlsrLiveError` with the last line of the log if the process ended."""
        if (status := self.process.poll()) is not None:
            lines = self.log.read_text(errors="replace").splitlines() or ["its log is empty"]
            raise XlsrLiveError(f"the server ended with status {status}: {lines[-1]}")


def start_server(
    flags: Sequence[str], log: IO[str] | None = None, variables: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a server with these flags and settings on a free port, without settings of this process's environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XLSR_LIVE_")}
    environment |= variables or {}
    command = [sys.executable, "-m", "xlsr_live.client.cli", "serve", "--port", "0", *flags]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)


def ready_url(process: subprocess.Popen[str]) -> str | None:
    """Wait until the server is ready; its address, or None if it ended."""
    assert process.stdout is not None
    line = process.stdout.readline()
    return line.removeprefix(READY).split(" (")[0] if line.startswith(READY) else None


@contextmanager
def server_process(flags: Sequence[str]) -> Generator[SoakServer]:
    """Run a server with these flags on a free port for the duration of the block, without settings of the environment.

    Raises `XlsrLiveError` if it does not start, or does not end with status 0.
    """
    if not Path("/proc/self/statm").exists():
        raise ConfigError("this needs Linux: it reads the memory of another process from /proc")
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w") as log:
        process = start_server(flags, log)
        server = SoakServer("", process, Path(log.name))
        try:
            with waiting("starting the server"):
                url = ready_url(process)
            if url is None:
                process.wait(STOP_S)
                server.check()
            yield SoakServer(url or "", process, server.log)
            process.terminate()
            if process.wait(STOP_S):
                server.check()
        finally:
            process.kill()
            process.communicate()
