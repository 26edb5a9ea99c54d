"""The real server in its own process, with an encoder that fails on request, and a census of its resources.

A client requests failures by a setting that has no effect without a wake phrase: `wake_ms` as in `INJECTIONS`. Every
fifth batch of several requests fails too, as on a device without memory for so many; no client loses anything then.
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
from typing import Any, cast

import numpy as np
import torch
from xlsr_live.server import run
from xlsr_live.server.models.models import Models
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming.engine.batches import BatchCalls
from xlsr_live.streaming.live import StreamSession
from xlsr_live.streaming.recognizer import Recognizer
from xlsr_live.streaming.requests import CachedStep

from tests.support.paths import ROOT

INJECTIONS = {"no_memory_step": 1_001, "no_memory_pass": 1_002, "error": 1_003, "every_request_fails": 1_004}  # wake_ms
BATCH_FAILURE_EVERY = 5  # batches of several requests


class FailingSamples(np.ndarray):
    """Samples on which the encoder raises `error`."""

    error: type[Exception]


class FaultyEncoder:
    """Encodes the requests of a batch one by one, so that results are bit-exact; claims batches of four."""

    max_batch = 4

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self._batches = 0
        self.failures = 0  # of single requests: the client sees them
        self.batch_failures = 0  # of batches: no client sees them

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode(self, batch: Any, recalls: Any, **options: Any) -> Any:
        self._inject(batch)
        pairs = zip(batch, recalls, strict=True)
        return [self._encoder.encode([samples], [recall], **options)[0] for samples, recall in pairs]

    def encode_steps(self, batch: Any) -> Any:
        self._inject([samples for samples, _ in batch])
        with self._counting(batch):  # a step after a failed one fails before any other step runs, as in a batch
            for _, reuse in batch:
                self._encoder.cached._slot(reuse)
        return [self._encoder.encode_steps([one])[0] for one in batch]

    def _inject(self, batch: list[np.ndarray]) -> None:
        """Fail before any state changes, as an allocator does."""
        with self._counting(batch):
            for samples in batch:
                if isinstance(samples, FailingSamples):
                    raise samples.error("an injected failure")
        self._batches += len(batch) > 1
        if len(batch) > 1 and self._batches % BATCH_FAILURE_EVERY == 0:
            self.batch_failures += 1
            raise torch.OutOfMemoryError("an injected failure of a batch")

    @contextmanager
    def _counting(self, batch: list[Any]) -> Iterator[None]:
        try:
            yield
        except Exception:
            self.failures += len(batch) == 1
            raise


class InjectingEngine:
    """The engine of a session with injected failures."""

    def __init__(self, engine: Any, injection: int) -> None:
        self._engine = engine
        self._injection = injection
        self._steps = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def submit(self, samples: np.ndarray, *, reuse: Any = None, **others: Any) -> Any:
        step = isinstance(reuse, CachedStep)
        self._steps += step
        failing = {
            INJECTIONS["no_memory_step"]: step and self._steps == 2,
            INJECTIONS["no_memory_pass"]: not step,
            INJECTIONS["error"]: step and self._steps % 2 == 1,
            INJECTIONS["every_request_fails"]: True,
        }
        if failing.get(self._injection):
            samples = samples.view(FailingSamples)
            samples.error = RuntimeError if self._injection == INJECTIONS["error"] else torch.OutOfMemoryError
        return self._engine.submit(samples, reuse=reuse, **others)


class FaultyRecognizer(Recognizer):
    def session(self, config: Any = None, audio: Any = None, **others: Any) -> StreamSession:
        session = super().session(config, audio, **others)
        if config.wake_ms in INJECTIONS.values():
            session._driver._engine = InjectingEngine(self.engine, config.wake_ms)  # type: ignore[assignment]
        return session


class CensusServer(run.Server):
    """Counts its resources: call `census` from any thread."""

    last: CensusServer

    def __init__(self, models: Models, *others: Any, **named: Any) -> None:
        super().__init__(models, *others, **named)
        self.recognizer: Any = models.current
        CensusServer.last = self

    async def _tasks(self) -> int:
        return len(asyncio.all_tasks())

    def census(self) -> dict[str, int]:
        """Everything that a client can leave behind, and the number of injected failures."""
        assert self._loop is not None
        gc.collect()
        engine, kept = self.recognizer.engine, self._admission.resume_store
        steps = self.recognizer.encoder.cached
        return {
            "open": self.sessions.count,
            "kept": len(kept._entries),
            "accounts": sum(one.sessions for one in self._admission._clients._accounts.values()),
            "tasks": asyncio.run_coroutine_threadsafe(self._tasks(), self._loop).result(60),
            "connections": len(self.server_state.connections),
            "handlers": len(self.server_state.tasks),
            "sessions": sum(type(one) is StreamSession for one in gc.get_objects()),
            "queued": engine.queued + len(engine._queue._lines) + len(engine._batch),
            "memories": len(engine._caches),
            "slots": len(steps.caches) if steps else 0,
            "threads": threading.active_count(),
            "files": len(os.listdir("/proc/self/fd")),
            "failures": self.recognizer.encoder.failures,
            "batch_failures": self.recognizer.encoder.batch_failures,
            "resident_kib": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024,
        }


def main(model: str, host: str) -> None:
    """Serve; a thread answers each line of standard input with a census."""

    def answer() -> None:
        for _ in sys.stdin:
            print(json.dumps(CensusServer.last.census()), flush=True)

    def load(settings: ServerSettings) -> Recognizer:
        recognizer = FaultyRecognizer.load(model, device="cpu", adaptive=False, lm="none")
        recognizer.encoder = encoder = cast(Any, FaultyEncoder(recognizer.encoder))
        recognizer.engine._encoder, recognizer.engine._calls = encoder, BatchCalls(encoder)
        return recognizer

    run.Server = CensusServer  # type: ignore[misc]
    threading.Thread(target=answer, daemon=True).start()
    limits = {"idle_timeout_s": 5.0, "request_timeout_s": 5.0, "resume_grace_s": 2.0, "max_unread_events": 200}
    run.serve(ServerSettings(host=host, port=0, max_sessions=100, log_level="warning", **limits), load)  # type: ignore[arg-type]


class FaultyServerProcess:
    """The server process as seen by its parent, in the parent's network namespace. Methods block."""

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
        """Stop the server gracefully; return its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(60)
        finally:
            self._process.kill()
            self._process.communicate()


if __name__ == "__main__":
    main(*sys.argv[1:])
