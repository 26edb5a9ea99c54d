"""Server processes as Kubernetes runs them: a Service in front, and a kubelet that stops them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import urlsplit

from tests.load.server_process import ready_url, start_server


@dataclass(frozen=True)
class StopTimes:
    """Seconds, as in a manifest."""

    hook: float  # of the preStop hook
    grace: float  # terminationGracePeriodSeconds, from the start of the hook


class Pod:
    """One server process, from its start on."""

    def __init__(self, flags: list[str], variables: Mapping[str, str]) -> None:
        self._process = start_server(flags, subprocess.DEVNULL, variables)
        self.port = 0

    async def ready(self) -> Pod:
        url = await asyncio.to_thread(ready_url, self._process)
        assert url is not None
        self.port = urlsplit(url).port or 0
        return self

    def hang(self) -> None:
        """Run no further instruction, like a process on a machine that is stuck."""
        os.kill(self._process.pid, signal.SIGSTOP)

    async def stop(self, times: StopTimes) -> int:
        """Stop it as a kubelet does; the exit status, which is -9 after SIGKILL."""
        await asyncio.sleep(times.hook)
        self._process.terminate()
        try:
            return await asyncio.to_thread(self._process.wait, times.grace - times.hook)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@dataclass
class Service:
    """The address of all pods: a new connection goes to the next endpoint, and stays there whatever becomes of it."""

    url: str = ""
    endpoints: list[Pod] = field(default_factory=list[Pod])
    failed: int = 0  # connections to an endpoint that does not answer
    accepted: dict[int, int] = field(default_factory=dict[int, int])  # connections by port
    _numbers: count[int] = field(default_factory=count)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self.endpoints[next(self._numbers) % len(self.endpoints)].port
        try:
            pod_reader, pod_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            self.failed += 1
            writer.transport.abort()
            return
        self.accepted[port] = self.accepted.get(port, 0) + 1
        await asyncio.gather(_carry(reader, pod_writer), _carry(pod_reader, writer))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()
    except OSError:
        writer.transport.abort()  # a reset goes on as a reset


@asynccontextmanager
async def service(*pods: Pod) -> AsyncGenerator[Service]:
    """A Service with these endpoints, for the length of the block."""
    running = Service(endpoints=list(pods))
    listener = await asyncio.start_server(running.connected, "127.0.0.1", 0)
    running.url = f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1/stream"
    try:
        yield running
    finally:
        listener.close()
