"""The CPU time that viewers of a shared session cost the server.

    python -m tests.figures.measure_viewers --viewers 200

The server runs in its own process. A client streams the same recording in real time, alternately with and without
viewers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import soundfile
from websockets.asyncio.client import connect

from tests.support.speech import require_speech

PACKET = 3_200  # bytes: 100 ms
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def recording(seconds: int) -> bytes:
    parts = [
        soundfile.read(path, dtype="int16")[0]
        for path in sorted((require_speech() / "librispeech").rglob("*.flac"))[:20]
    ]
    return np.concatenate(parts)[: 16_000 * seconds].tobytes()


def processor_s(pid: int) -> float:
    """User and system time of all threads of a process (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


async def watch(port: int, key: str, seen: dict[str, int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /v1/shared/{key} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    try:
        while data := await reader.read(1 << 16):
            seen["bytes"] += len(data)
            seen["events"] += data.count(b"data: ")
            seen["answers"] += data.startswith(b"HTTP/1.1 200")
    finally:
        writer.close()


async def stream(url: str, pid: int, audio: bytes, viewers: int) -> tuple[float, dict[str, int]]:
    """Share of a core that the server uses during the recording."""
    port, seen = int(url.split(":")[2].split("/")[0]), dict.fromkeys(("answers", "events", "bytes"), 0)
    async with AsyncExitStack() as stack:
        websocket = await stack.enter_async_context(connect(url, compression=None, ping_timeout=None))
        await websocket.send('{"type":"start","share":true}')
        key = json.loads(await websocket.recv())["share"]
        watching = [asyncio.create_task(watch(port, key, seen)) for _ in range(viewers)]
        while seen["answers"] < viewers:
            await asyncio.sleep(0.1)

        async def listen() -> None:
            async for _ in websocket:
                pass

        listening = asyncio.create_task(listen())
        loop = asyncio.get_running_loop()
        started, used = loop.time(), processor_s(pid)
        for number, at in enumerate(range(0, len(audio), PACKET)):
            await asyncio.sleep(started + number * 0.1 - loop.time())
            await websocket.send(audio[at : at + PACKET])
        share = (processor_s(pid) - used) / (loop.time() - started)
        await websocket.send('{"type":"end"}')
        await listening
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.gather(*watching)
    return share, seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--viewers", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=60, help="of speech in each run")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--model", default="bundled")
    options = parser.parse_args()
    command = [sys.executable, "-m", "xlsr_live.client.cli", "serve", "--port", "0", "--max-sessions", "4"]
    command += ["--threads", "1", "--model", options.model, "--max-viewers", str(options.viewers)]
    settings = {name: value for name, value in os.environ.items() if not name.startswith("XLSR_LIVE_")}
    server: Any = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=settings)
    try:
        url = server.stdout.readline().split(" (")[0].removeprefix("xlsr-live is ready: ")
        audio = recording(options.seconds)
        asyncio.run(stream(url, server.pid, audio[: 16_000 * 20], 0))  # warm
        shares: dict[int, list[float]] = {0: [], options.viewers: []}
        for _ in range(options.turns):
            for viewers in shares:
                share, seen = asyncio.run(stream(url, server.pid, audio, viewers))
                shares[viewers].append(share)
                rates = [count / max(1, viewers) / options.seconds for count in (seen["events"], seen["bytes"])]
                each = f", each {rates[0]:.1f} events and {rates[1]:.0f} bytes a second" if viewers else ""
                print(f"{viewers} viewers: {share:.1%} of a core{each}", flush=True)
        cost = mean(shares[options.viewers]) - mean(shares[0])
        print(f"{options.viewers} viewers cost {cost:.1%} of a core")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
