"""The real server in a process of its own, whose encoder fails when a client asks for it; it tells what it holds.

A client is failed by a setting that means nothing without a wake phrase: `wake_ms` as in `CURSES`. Every few batches of
several requests fail as well, as on a device that has no memory for so many: that is nobody's loss.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from xlsr_live.server import run
from xlsr_live.server.models.models import Models
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.live import StreamSession
from xlsr_live.streaming.recognizer import Recognizer
from xlsr_live.streaming.requests import CachedStep

from tests.support.paths import ROOT

CURSES = {"no_memory_step": 1_001, "no_memory_pass": 1_002, "error": 1_003, "nothing_works": 1_004}  # wake_ms
SHORT_EVERY = 5  # batches of several


class Cursed(np.ndarray):
    """Samples that no encoder takes."""

    why: type[Exception]


class Faulty:
    """The encoder, one request after the other, so that a batch changes no last bit; but it says that it takes four."""

    max_batch = 4

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self._batches = 0
        self.failures = 0  # that somebody was told of
        self.batch_failures = 0  # that nobody was

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode(self, batch: Any, recalls: Any) -> Any:
        self._strike(batch)
        pairs = zip(batch, recalls, strict=True)
        return [self._encoder.encode([samples], [recall])[0] for samples, recall in pairs]

    def encode_steps(self, batch: Any) -> Any:
        self._strike([samples for samples, _ in batch])
        with self._counting(batch):  # a step after one that failed: before any step is taken, as in a batch
            for _, reuse in batch:
                self._encoder.cached._place(reuse)
        return [self._encoder.encode_steps([one])[0] for one in batch]

    def _strike(self, batch: list[np.ndarray]) -> None:
        """Before anything is remembered, as an allocator fails."""
        with self._counting(batch):
            for samples in batch:
                if isinstance(samples, Cursed):
                    raise samples.why("an injected failure")
        self._batches += len(batch) > 1
        if len(batch) > 1 and self._batches % SHORT_EVERY == 0:
            self.batch_failures += 1
            raise torch.OutOfMemoryError("an injected failure of a batch")

    @contextmanager
    def _counting(self, batch: list[Any]) -> Iterator[None]:
        try:
            yield
        except Exception:
            self.failures += len(batch) == 1
            raise


class CursingEngine:
    """The engine as a cursed session sees it."""

    def __init__(self, engine: Any, curse: int) -> None:
        self._engine = engine
        self._curse = curse
        self._steps = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def submit(self, samples: np.ndarray, *, reuse: Any = None, **others: Any) -> Any:
        step = isinstance(reuse, CachedStep)
        self._steps += step
        struck = {
            CURSES["no_memory_step"]: step and self._steps == 2,
            CURSES["no_memory_pass"]: not step,
            CURSES["error"]: step and self._steps % 2 == 1,
            CURSES["nothing_works"]: True,
        }
        if struck.get(self._curse):
            samples = samples.view(Cursed)
            samples.why = RuntimeError if self._curse == CURSES["error"] else torch.OutOfMemoryError
        return self._engine.submit(samples, reuse=reuse, **others)


class FaultyRecognizer(Recognizer):
    def session(self, config: Any = None, audio: Any = None, *, name: str | None = None) -> StreamSession:
        session = super().session(config, audio, name=name)
        if config.wake_ms in CURSES.values():
            session._engine = CursingEngine(self.engine, config.wake_ms)  # type: ignore[assignment]
        return session


class Watched(run.Server):
    """Tells what it holds: `census` from any thread."""

    last: Watched

    def __init__(self, models: Models, *others: Any, **named: Any) -> None:
        super().__init__(models, *others, **named)
        self.recognizer: Any = models.current
        Watched.last = self

    async def _tasks(self) -> int:
        return len(asyncio.all_tasks())

    def census(self) -> dict[str, int]:
        """Everything that a client could leave behind, and how often the encoder was made to fail."""
        assert self._loop is not None
        gc.collect()
        engine, kept = self.recognizer.engine, self._admission.resume_store
        steps = self.recognizer.encoder.cached
        return {
            "open": self.sessions.count,
            "kept": len(kept._entries),
            "accounts": sum(one.sessions for one in self._admission._clients._accounts.values()),
            "tasks": asyncio.run_coroutine_threadsafe(self._tasks(), self._loop).result(10),
            "connections": len(self.server_state.connections),
            "handlers": len(self.server_state.tasks),
            "sessions": sum(type(one) is StreamSession for one in gc.get_objects()),
            "queued": engine.queued + len(engine._queue._lines) + len(engine._batch),
            "memories": len(engine._caches),
            "slots": len(steps.places) if steps else 0,
            "threads": threading.active_count(),
            "files": len(os.listdir("/proc/self/fd")),
            "failures": self.recognizer.encoder.failures,
            "batch_failures": self.recognizer.encoder.batch_failures,
            "resident_kib": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024,
        }


def main(model: str, host: str) -> None:
    """Serve; a helper answers every line on standard input with a census."""

    def answer() -> None:
        for _ in sys.stdin:
            print(json.dumps(Watched.last.census()), flush=True)

    def load(settings: ServerSettings) -> Recognizer:
        recognizer = FaultyRecognizer.load(model, device="cpu", adaptive=False, lm="none")
        recognizer.encoder = recognizer.engine._encoder = Faulty(recognizer.encoder)  # type: ignore[assignment]
        return recognizer

    run.Server = Watched  # type: ignore[misc]
    threading.Thread(target=answer, daemon=True).start()
    limits = {"idle_timeout_s": 5.0, "request_timeout_s": 3.0, "resume_grace_s": 2.0, "max_unread_events": 200}
    run.serve(ServerSettings(host=host, port=0, max_sessions=100, log_level="warning", **limits), load)  # type: ignore[arg-type]


class ServerProcess:
    """It from outside, in a network of the caller's. Blocking."""

    def __init__(self, model: str, host: str, log: Any) -> None:
        command = [sys.executable, "-m", "tests.support.faulty_server", model, host]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1, cwd=ROOT
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.port = int(line.split("/v1/stream")[0].rpartition(":")[2])

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def census(self) -> dict[str, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print("census", file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> int:
        """End it in peace; its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(60)
        finally:
            self._process.kill()
            self._process.communicate()


if __name__ == "__main__":
    main(*sys.argv[1:])
