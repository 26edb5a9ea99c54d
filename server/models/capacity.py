"""The number of sessions that a machine can carry: measured once per model, device and version, then cached.

A few sessions recognize some seconds of noise as fast as they can. They have no gate, so all of it is processed like
speech: live steps, second passes, decoding. The speed relative to real time, minus a margin, is the capacity. On a CPU
the measurement counts processor time, so other load on the machine does not change it. The result is an estimate;
above it `streaming/overload` reduces the service. It is never more than the memory for caches allows.
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
from typing import Annotated, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ...streaming.config import SessionConfig
from ...streaming.engine.counters import EngineCounters
from ...streaming.recognizer import Recognizer

logger = logging.getLogger("xlsr_live.server")

CPU_STREAMS: Final = 2  # more would not batch
GPU_STREAMS: Final = 32
AUDIO_S: Final = 6.0  # per stream and round
ROUNDS: Final = 3  # the fastest counts
MAX_S: Final = 10.0  # no round begins later
MARGIN: Final = 0.8
CACHED_S: Final = 30 * 86_400.0


class Measured(msgspec.Struct):
    """A cached measurement."""

    sessions: Annotated[int, msgspec.Meta(ge=1)]
    when: float  # Unix time


def capacity(recognizer: Recognizer, folder: Path | None = None, *, remember: bool = True, fronts: int = 1) -> int:
    """Sessions that the recognizer can carry in real time, at least 1. With several `fronts`, those carry the sessions
    and this process the model.

    Reads an earlier measurement from `folder` (default: the user's cache); otherwise measures and, with `remember`,
    writes it there.
    """
    file = (folder or cache_folder()) / "capacity.json"
    name, known = _name(recognizer), _read(file)
    name += f", {fronts} fronts" if fronts > 1 else ""
    if name in known and 0 <= time.time() - known[name].when < CACHED_S:
        sessions = known[name].sessions
        logger.info("capacity: %d sessions, from an earlier measurement (%s)", sessions, file)
    else:
        logger.info("measuring how many sessions this machine carries; this happens once and takes some seconds")
        sessions = measure(recognizer, fronts=fronts)
        recognizer.engine.counters = EngineCounters()  # they count only clients' audio
        logger.info("capacity: %d sessions", sessions)
        if remember:
            _write(file, known | {name: Measured(sessions, round(time.time()))})
    return sessions if recognizer.room is None else max(1, min(sessions, recognizer.room))


def remembered(name: str, folder: Path | None = None) -> int | None:
    """The newest measurement of a model on this machine by this version, with any options; None if there is none."""
    known = _read((folder or cache_folder()) / "capacity.json")
    start = f"{version('xlsr-live')}, {name}, "
    newest = max((one for key, one in known.items() if key.startswith(start)), key=lambda one: one.when, default=None)
    return None if newest is None else newest.sessions


class _Cost(NamedTuple):
    """Seconds for the audio of one round."""

    wall: float
    cpu: float  # of all threads
    encoder: float  # of the wall time


def measure(recognizer: Recognizer, *, audio_s: float = AUDIO_S, rounds: int = ROUNDS, fronts: int = 1) -> int:
    """Measure the capacity now. Must not be called in a running event loop."""
    gpu = recognizer.info.device.startswith("cuda")
    streams = GPU_STREAMS if gpu else CPU_STREAMS
    noise = np.random.default_rng(0).normal(0, 0.1, round(audio_s * 16_000)).astype(np.float32)
    costs: list[_Cost] = []
    began = time.monotonic()
    while len(costs) <= rounds and time.monotonic() - began < MAX_S:  # one more: the first round warms up
        wall, cpu, encoder = time.perf_counter(), time.process_time(), recognizer.engine.counters.busy_s
        asyncio.run(_round(recognizer, noise, streams))
        busy = recognizer.engine.counters.busy_s - encoder
        costs.append(_Cost(time.perf_counter() - wall, time.process_time() - cpu, busy))
    best = min(costs, key=lambda cost: cost.wall if gpu else cost.cpu)
    return max(1, int(MARGIN * streams * audio_s / _busiest(best, fronts, gpu=gpu)))


def _busiest(cost: _Cost, fronts: int, *, gpu: bool) -> float:
    """Seconds that the scarcest resource is busy with a round."""
    if fronts == 1:
        return cost.wall if gpu else cost.cpu / min(_threads(), processors())
    if gpu:
        return max(cost.encoder, cost.cpu / fronts)
    encoder = cost.cpu * min(1.0, cost.encoder / cost.wall)  # shares, which other programs change little
    return max(encoder / min(_threads(), processors()), (cost.cpu - encoder) / fronts, cost.cpu / processors())


def warn_if_crowded(limit: int, recognizer: Recognizer) -> None:
    """Log it if fewer sessions than `limit` can speak at the same time: the others would get no partials."""
    if recognizer.room is not None and recognizer.room < limit:
        logger.warning(
            "max_sessions is %d, but the memory for live utterances is enough for %d; if more speak at the "
            "same time, some get finals without partials",
            limit,
            recognizer.room,
        )


async def _round(recognizer: Recognizer, samples: NDArray[np.float32], streams: int) -> None:
    async def one() -> None:
        stream = recognizer.session(SessionConfig(vad="none", language=recognizer.languages.trial))

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
    """Processors that this process may use: its affinity, further limited by a container's or a service's CPU quota
    (Linux, cgroup v2).
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [float(available)]
    try:
        own = next(line for line in cgroup.read_text().splitlines() if line.startswith("0::")).removeprefix("0::/")
    except (OSError, StopIteration):
        return limits[0]
    for folder in (root / own, *(root / own).parents):
        with suppress(OSError, ValueError):  # "max 100000": no limit
            quota, period = (folder / "cpu.max").read_text().split()
            limits.append(int(quota) / int(period))
        if folder == root:
            break
    return min(limits)


def cache_folder() -> Path:
    """The user's cache folder of this program."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "xlsr-live"


def _name(recognizer: Recognizer) -> str:
    """Everything that the capacity depends on."""
    info, lm = recognizer.info, recognizer.assets.language_model
    if info.device.startswith("cuda"):
        device = sys.modules["torch"].cuda.get_device_name(info.device)
    else:
        device = f"{_processor()} x {processors():g}, {_threads()} threads"
    parts = (
        version("xlsr-live"),
        info.name,
        info.parameters,
        f"lookahead {info.lookahead_ms} ms",
        device,
        info.dtype,
        f"{lm.words if lm else 0} words",
    )
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
        logger.warning("cannot write the capacity to %s: %s", file, error.strerror)
