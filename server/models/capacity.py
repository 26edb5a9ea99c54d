"""How many sessions a machine carries: measured once for each model, device and version, then remembered.

A few sessions hear some seconds of noise as fast as they can, without a gate, so that all of it is worked on as speech
would be: live steps, second passes, decoding. How much faster than real time that went, less a margin, is the number.
On a CPU it is the processor's time that counts, so that a machine that is busy at the start is not taken for a slow
one. It is an estimate: what a server does above it is up to `streaming.ladder`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ...streaming.config import SessionConfig
from ...streaming.engine.counters import EngineCounters
from ...streaming.recognizer import Recognizer

logger = logging.getLogger("xlsr_live.server")

STREAMS: Final = 2  # on a CPU, where more share no batches
GPU_STREAMS: Final = 32
AUDIO_S: Final = 6.0  # of each, for each round
ROUNDS: Final = 3  # the best counts
MOST_S: Final = 10.0  # no round begins after that
MARGIN: Final = 0.8
KEPT_S: Final = 30 * 86_400.0  # until it is measured again


class Measured(msgspec.Struct):
    sessions: Annotated[int, msgspec.Meta(ge=1)]
    when: float  # seconds since 1970


def capacity(recognizer: Recognizer, folder: Path | None = None, *, remember: bool = True) -> int:
    """Sessions that the recognizer carries in real time: as remembered in `folder`, the user's cache unless given, or
    measured. At least 1."""
    file = (folder or cache_folder()) / "capacity.json"
    name, known = _name(recognizer), _read(file)
    if name in known and 0 <= time.time() - known[name].when < KEPT_S:
        logger.info("capacity: %d sessions, as measured before (%s)", known[name].sessions, file)
        return known[name].sessions
    sessions = measure(recognizer)
    recognizer.engine.counters = EngineCounters()  # that was nobody's audio
    logger.info("capacity: %d sessions", sessions)
    if remember:
        _write(file, known | {name: Measured(sessions, round(time.time()))})
    return sessions


def measure(recognizer: Recognizer, *, audio_s: float = AUDIO_S, rounds: int = ROUNDS) -> int:
    """The same, measured now. Must not be called in a running event loop."""
    gpu = recognizer.info.device.startswith("cuda")
    streams, cores = (GPU_STREAMS, 1.0) if gpu else (STREAMS, min(_threads(), processors()))
    clock = time.perf_counter if gpu else time.process_time
    noise = np.random.default_rng(0).normal(0, 0.1, round(audio_s * 16_000)).astype(np.float32)
    took: list[float] = []
    begun = time.monotonic()
    while len(took) <= rounds and time.monotonic() - begun < MOST_S:  # the first warms up, and need not be the best
        started = clock()
        asyncio.run(_round(recognizer, noise, streams))
        took.append(clock() - started)
    return max(1, int(MARGIN * cores * streams * audio_s / min(took)))


async def _round(recognizer: Recognizer, samples: NDArray[np.float32], streams: int) -> None:
    async def one() -> None:
        stream = recognizer.session(SessionConfig(vad="none"))

        async def feed() -> None:
            for at in range(0, len(samples), 1_600):
                await stream.send(samples[at : at + 1_600])
            await stream.end()

        feeding = asyncio.create_task(feed())
        async for _ in stream:
            pass
        await feeding

    await asyncio.gather(*(one() for _ in range(streams)))


def processors(cgroup: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """How many processors' time this process may have: those it may run on, less if a container or a service's
    `CPUQuota` gives it a share (Linux, cgroup v2).
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = [float(available)]
    try:
        own = next(line for line in cgroup.read_text().splitlines() if line.startswith("0::")).removeprefix("0::/")
    except (OSError, StopIteration):
        return found[0]
    for folder in (root / own, *(root / own).parents):
        with suppress(OSError, ValueError):  # "max 100000": no limit
            quota, period = (folder / "cpu.max").read_text().split()
            found.append(int(quota) / int(period))
        if folder == root:
            break
    return min(found)


def cache_folder() -> Path:
    """Where this user's programs keep what they could make again."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "xlsr-live"


def _name(recognizer: Recognizer) -> str:
    """All that the number depends on."""
    info, lm = recognizer.info, recognizer.assets.language_model
    if info.device.startswith("cuda"):
        device = sys.modules["torch"].cuda.get_device_name()
    else:
        device = f"{_processor()} x {processors():g}, {_threads()} threads"
    parts = version("xlsr-live"), info.name, info.parameters, device, info.dtype, f"{lm.words if lm else 0} words"
    return ", ".join(map(str, parts))


def _threads() -> int:
    return sys.modules["torch"].get_num_threads()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _read(file: Path) -> dict[str, Measured]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Measured])
    except (OSError, msgspec.DecodeError):
        return {}


def _write(file: Path, known: dict[str, Measured]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(f".{os.getpid()}")
        new.write_bytes(msgspec.json.encode(known))
        new.replace(file)
    except OSError as error:
        logger.warning("the capacity cannot be remembered in %s: %s", file, error.strerror)
