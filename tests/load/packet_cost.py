"""CPU time that one packet costs a server without its model: `python -m tests.load.packet_cost [TREE ...]`.

Compares source trees of this project (by default this one), in turns, each in new processes. The figures are CPU time,
the least of many rounds, because other load only adds to it:

- of a session alone (100 ms), and
- of the thread of the server's event loop, while a websocket client sends packets one by one, each after the server has
  taken the one before.

"quiet" has a detector that finds no speech; in "speech" live steps go to a fake encoder (`profile_server.py`). The cost
of the detector itself is not in the figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from tests.load.profile_server import TalkativeEncoder

LAYERS = ("streaming", "server", "client", "training")
PACKETS_MS = (100, 20)
VADS = {"quiet": "energy", "speech": "none"}
VOICED = {"quiet": 0.0, "speech": 0.9}
ROUND, ROUNDS, TURNS = 25, 60, 3  # packets of a round, rounds of a connection, processes of a tree


def session_cost(encoder: TalkativeEncoder, packet: bytes, probability: float) -> float:
    """Microseconds of a packet in a session whose detector always gives this probability."""
    from xlsr_live.streaming.config import SessionConfig
    from xlsr_live.streaming.session.session import Session

    def vad(frames: np.ndarray) -> list[float]:
        return [probability] * len(frames)

    session = Session(encoder.vocabulary, SessionConfig(), vad=vad, modes=("cached",))  # type: ignore[arg-type]
    least = float("inf")
    for _ in range(ROUNDS):
        before = time.thread_time()
        for _ in range(ROUND):
            session.receive_audio(packet, 0.0)
            while jobs := session.requests():
                for job in jobs:
                    live = job.kind == "live"
                    (answer,) = (
                        encoder.encode_steps([(job.samples, job.reuse)]) if live else encoder.encode([job.samples], [])
                    )
                    session.receive_answer(job.id, answer, 0.0)
            session.events(), session.released()
        least = min(least, time.thread_time() - before)
    return 1e6 * least / ROUND


def child() -> None:
    """Print the microseconds of a packet, by kind and length, of the package on the path."""
    from websockets.sync.client import connect
    from xlsr_live.server.run import running_server

    from tests.load.profile_server import TalkativeEncoder, _Recognizer

    noise = (300 * np.random.default_rng(0).standard_normal(16 * max(PACKETS_MS))).astype("<i2").tobytes()
    encoder = TalkativeEncoder()
    found = {f"session, {kind}": session_cost(encoder, noise, probability) for kind, probability in VOICED.items()}
    recognizer = _Recognizer(encoder)
    with running_server(recognizer) as server:
        (thread,) = (each for each in threading.enumerate() if each.name == "xlsr-live-server")
        clock = time.pthread_getcpuclockid(thread.ident or 0)
        for kind, vad in VADS.items():
            for packet_ms in PACKETS_MS:
                packet, least = noise[: 32 * packet_ms], float("inf")
                with connect(server.url, compression=None, ping_interval=None) as websocket:
                    websocket.send(json.dumps({"type": "start", "config": {"vad": vad}}))
                    websocket.recv()
                    sent, front = 0, recognizer.opened[-1]._session._front
                    for _ in range(ROUNDS):
                        before = time.clock_gettime(clock)
                        for _ in range(ROUND):
                            websocket.send(packet)
                            sent += len(packet) // 2
                            while front.position < sent:
                                time.sleep(0.0001)
                        least = min(least, time.clock_gettime(clock) - before)
                found[f"{kind}, {packet_ms} ms"] = 1e6 * least / ROUND
    print(json.dumps(found))


def main(trees: list[Path]) -> None:
    least: dict[Path, dict[str, float]] = {tree: {} for tree in trees}
    with TemporaryDirectory() as folder:
        for _ in range(TURNS):
            for number, tree in enumerate(trees):
                package = Path(folder) / str(number) / "xlsr_live"
                package.mkdir(parents=True, exist_ok=True)
                for layer in LAYERS:
                    if not (package / layer).exists():
                        (package / layer).symlink_to(tree.resolve() / layer)
                path = os.pathsep.join([str(package.parent), str(tree.resolve())])
                done = subprocess.run(
                    [sys.executable, __file__, "--child"],
                    env=os.environ | {"PYTHONPATH": path},
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                for name, taken in json.loads(done.stdout).items():
                    least[tree][name] = min(taken, least[tree].get(name, float("inf")))
    for tree, found in least.items():
        print(f"{tree}: " + "; ".join(f"{name}: {taken:.0f} us" for name, taken in found.items()))


if __name__ == "__main__":
    if sys.argv[1:] == ["--child"]:
        child()
    else:
        main([Path(name) for name in sys.argv[1:]] or [ROOT])
