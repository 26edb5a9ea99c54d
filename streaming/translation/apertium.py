"""Apertium, a rule-based translator, as external programs that keep running: a pipeline for each pair of languages.

Debian has some forty pairs (`apt install apertium-eng-spa`). The programs are under the GPL and are only started, never
linked. A pipeline translates a sentence in milliseconds.

The command `apertium -f none -z` does not answer before two more inputs arrive: the `gawk` at both ends of its pipeline
reads ahead. So the pipeline of the mode file runs by itself, as in Apertium's own web service (apertium-apy). An input
ends with `.[]`, as Apertium's deformatters end it: without it the last word waits for what follows.
"""

from __future__ import annotations

import os
import re
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ..errors import ConfigError
from .text import finished, sentence
from .translator import Segment, TranslationError

PROGRAMS: Final = ("apertium", "apertium-wblank-mode", "bash")
ANSWER_S: Final = 4.0  # for one sentence, and the start of the programs
_MODE: Final = re.compile(r"([a-z]{2,3})-([a-z]{2,3})")  # variants (eng-spa_US) are left out
_SPECIAL: Final = re.compile(r"[\[\]{}^$/\\@<>*#~\0]")  # of Apertium's stream format; speech has none of them
_MARK: Final = re.compile(r"(?<!\w)[*#@](?=\w)")  # of a word that is unknown, or could not be inflected
_END: Final = ".[]"
_HINT: Final = "on Debian: apt install apertium-eng-spa"


class Apertium:
    """Translates text with the pairs that are installed. `modes` is the folder of their mode files.

    Raises `ConfigError` if the programs or all pairs are missing.
    """

    name = "apertium"
    speech = False
    costly = False
    max_batch = 1

    def __init__(self, modes: Path | None = None, *, answer_s: float = ANSWER_S) -> None:
        self.restarts = 0  # programs that died or did not answer
        self.unknown = 0  # words that the dictionaries lack; they stay as they are
        self._modes = modes or _installed()
        self._answer_s = answer_s
        found = [_MODE.fullmatch(path.stem) for path in sorted(self._modes.glob("*.mode"))]
        self._pairs = [(mode[1], mode[2]) for mode in found if mode]
        if not self._pairs:
            raise ConfigError(f"Apertium has no language pairs in {self._modes}; {_HINT}")
        self._lock = threading.Lock()
        self._idle: dict[str, _Pipeline] = {}  # by pair
        self._busy: set[_Pipeline] = set()  # more than one of a pair if a call was abandoned
        self._closed = False

    def sources(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(source for source, _ in self._pairs))

    def targets(self, source: str | None) -> tuple[str, ...]:
        return tuple(dict.fromkeys(target for each, target in self._pairs if source in (None, each)))

    def translate(self, segments: Sequence[Segment]) -> list[str]:
        return [self._sentence(segment) for segment in segments]

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for pipeline in self._busy:
                pipeline.kill()  # the thread that uses it sees its end
            for pipeline in self._idle.values():
                pipeline.stop()
            self._idle.clear()

    def _sentence(self, segment: Segment) -> str:
        pair = f"{segment.source}-{segment.target}"
        text = _SPECIAL.sub(" ", sentence(segment.text)).removesuffix(".").rstrip()
        with self._pipeline(pair) as pipeline:
            answer = pipeline.translate(text, time.monotonic() + self._answer_s)
        plain, unknown = _MARK.subn("", answer.replace("\\", "").rstrip().removesuffix(_END))
        self.unknown += unknown
        return finished(plain)

    @contextmanager
    def _pipeline(self, pair: str) -> Generator[_Pipeline]:
        """An idle pipeline of the pair or a new one, for this call alone: a call that was abandoned may still use the
        other one, and its answer must not come here.
        """
        with self._lock:
            pipeline = self._idle.pop(pair, None)
        pipeline = pipeline or _Pipeline(self._modes / f"{pair}.mode")
        with self._lock:
            self._busy.add(pipeline)
            closed = self._closed
        try:
            if closed:
                raise TranslationError("the recognizer is closed")
            yield pipeline
        except BaseException:
            self._give_back(pair, pipeline, healthy=False)
            raise
        self._give_back(pair, pipeline, healthy=True)

    def _give_back(self, pair: str, pipeline: _Pipeline, *, healthy: bool) -> None:
        with self._lock:
            self._busy.discard(pipeline)
            self.restarts += not healthy
            keep = healthy and not self._closed and pair not in self._idle
            if keep:
                self._idle[pair] = pipeline
        if not keep:
            pipeline.stop()


class _Pipeline:
    """The running programs of one mode. Raises `TranslationError` if they cannot be started."""

    def __init__(self, mode: Path) -> None:
        # The second program gives each part of the pipeline the flag that makes it answer at a NUL.
        try:
            script = subprocess.run(
                ["apertium-wblank-mode", "-z", mode], check=True, capture_output=True, text=True, timeout=ANSWER_S
            ).stdout
            self._program = subprocess.Popen(
                ["bash", "-c", script, "apertium", "-g", ""],  # -g: mark unknown words
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # so that all of its parts can be ended together
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise TranslationError(f"Apertium does not start ({mode.stem}): {error}") from None

    def translate(self, text: str, deadline: float) -> str:
        """Raises `TranslationError` if the programs died or do not answer in time."""
        assert self._program.stdin is not None
        try:
            self._program.stdin.write(f"{text}{_END}\0".encode())
            self._program.stdin.flush()
            return self._answer(deadline)
        except OSError:
            raise TranslationError("Apertium's program has ended; it starts again") from None

    def _answer(self, deadline: float) -> str:
        assert self._program.stdout is not None
        answer = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._program.stdout, selectors.EVENT_READ)
            while not answer.endswith(b"\0"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TranslationError("Apertium does not answer; it starts again")
                if not (part := os.read(self._program.stdout.fileno(), 65_536)):
                    raise TranslationError("Apertium's program has ended; it starts again")
                answer += part
        return answer[:-1].decode(errors="replace")

    def kill(self) -> None:
        """End the programs. Any thread may call it."""
        with suppress(ProcessLookupError):
            os.killpg(self._program.pid, signal.SIGKILL)

    def stop(self) -> None:
        """End the programs and close their pipes."""
        self.kill()
        self._program.wait()
        for pipe in (self._program.stdin, self._program.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()


def _installed() -> Path:
    """The folder of the installed modes. Raises `ConfigError`."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise ConfigError(f"Apertium is not installed ({missing[0]} is missing); {_HINT}")
    program = Path(shutil.which("apertium") or "").resolve()
    return program.parents[1] / "share" / "apertium" / "modes"
