"""The run: updates, evaluations, the best weights so far, and a state on disk from which a killed run continues.

The order of examples, their augmentation and the random numbers of an update depend on the seed and the position only.
With a number of steps a run that was killed and continued therefore ends with the same bits as one that was not. With
`minutes` the rates follow the clock.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..streaming.ctc.greedy import decode
from ..streaming.ctc.vocabulary import Vocabulary
from . import checkpoint
from .batch import Batch
from .errors import TrainingError
from .learner import Learner, Part, draw_lengths
from .network import StepLengths
from .plan import Examples, StepParts, plan_epoch
from .processes import Processes
from .score import ErrorRates, badness, transcribe
from .settings import FineTuning
from .survey import Spoken

STATE: Final = "state.pt"
HISTORY: Final = "history.jsonl"
AHEAD: Final = 3  # steps whose batches are made ahead
NOT_FINITE: Final = 20  # updates in a row without a finite gradient end a run
BLANK_UNTIL: Final = 0.4  # share of the run after which some text must have appeared


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A line of the history: rates of the averaged weights on validation, as shares."""

    step: int
    epoch: int
    progress: float
    minutes: float
    audio_hours: float
    loss: float | None  # training, nats per character; None before the first update
    offline: float  # word error rates
    live: float
    offline_characters: float  # character error rates
    live_characters: float


@dataclass(slots=True)
class RunPosition:
    """Where a run is. Everything that changes and is no tensor."""

    step: int = 0
    epoch: int = 0
    at: int = 0  # steps of the epoch that are done
    wall: float = 0.0  # seconds of training
    seconds: float = 0.0  # of audio
    best: float = float("inf")  # `badness` of the best weights
    best_step: int = 0
    evaluated: int = 0  # evaluations that are done
    since_best: int = 0
    losses: list[float] = field(default_factory=list[float])  # since the last evaluation
    ended: str = ""  # why the run ended; empty: it did not


class FineTuner:
    """Trains `learner` on `spoken` and evaluates on `validation`; `folder` holds the state of the run.

    Evaluations are one pass over a recording, and the steps `live`. `makers` threads make batches ahead, for a GPU;
    with 0, the threads of the learner make their own. `watch` gets the position after each update; `report` gets each
    evaluation; `say` gets a sentence for the user.
    """

    def __init__(
        self,
        learner: Learner,
        examples: Examples,
        spoken: Sequence[Spoken],
        validation: Sequence[tuple[Spoken, NDArray[np.float32]]],
        vocabulary: Vocabulary,
        how: FineTuning,
        *,
        part_seconds: float,
        folder: Path,
        processes: Processes,
        live: StepLengths,
        makers: int = 0,
        watch: Callable[[RunPosition, float], None] = lambda position, progress: None,
        report: Callable[[Evaluation], None] = lambda evaluation: None,
        say: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.learner, self.how, self.folder = learner, how, folder
        self.position = RunPosition()
        self._examples, self._spoken, self._vocabulary = examples, spoken, vocabulary
        self._validation, self._part_seconds, self._processes = validation, part_seconds, processes
        self._watch, self._report, self._say, self._live = watch, report, say, live
        self._makers = ThreadPoolExecutor(makers) if makers else None
        self._not_finite = 0
        self._saved = self._begun = time.monotonic()
        self._best: dict[str, Tensor] = {}
        self._key = self._fingerprint()

    def resume(self) -> bool:
        """Continue from the state in the folder, if there is one. Raises `TrainingError` if it is of another run."""
        path = self.folder / STATE
        if not path.exists():
            return False
        state = checkpoint.restore(path)
        if state["key"] != self._key:
            raise TrainingError(
                f"{self.folder.parent} holds a run with other data or settings; give another --out, or --restart"
            )
        self.learner.load(state)
        self._best = state["best"]
        self.position = RunPosition(**state["position"])
        return True

    def run(self, asked_to_stop: Callable[[], bool] = lambda: False) -> bool:
        """Train to the end, put the best weights into the network, and return True; False after `asked_to_stop`.

        Raises `TrainingError` if the model learns nothing, or if a stopped run cannot be saved.
        """
        self._begun = time.monotonic() - self.position.wall
        if not self.position.step:
            self._evaluate()
        while not self.position.ended:
            plan = self._plan()
            for step, parts in self._made(plan[self.position.at :]):
                self._step(step, parts)
                self._after_step()
                if self.position.ended:
                    break
                if self._processes.any(asked_to_stop()):
                    self.save()
                    return False
            if self.position.at >= len(plan):
                self.position.epoch, self.position.at = self.position.epoch + 1, 0
        self._save_if_possible()
        self.learner.load_weights(self._best)
        return True

    @property
    def progress(self) -> float:
        """The share of the run that is done, by steps or by time, whichever is further."""
        by_steps = self.position.step / self.how.steps if self.how.steps else 0.0
        by_time = self.position.wall / (60 * self.how.minutes) if self.how.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def _plan(self) -> list[StepParts]:
        how = self.how
        return plan_epoch(
            self.position.epoch, self._spoken, how.batch_seconds, self._part_seconds, how.seed, how.augmentation
        )

    def _made(self, steps: Sequence[StepParts]) -> Iterator[tuple[StepParts, list[Part]]]:
        """Each step with functions that give the batches of this process."""
        shares = [self._processes.share(step) for step in steps]
        if self._makers is None:
            for step, share in zip(steps, shares, strict=True):
                yield step, [partial(self._examples.batch, part) for part in share]
            return
        waiting: deque[list[Future[Batch]]] = deque()
        for at, step in enumerate(steps):
            for share in shares[at + len(waiting) : at + AHEAD]:
                waiting.append([self._makers.submit(self._examples.batch, part) for part in share])
            yield step, [batch.result for batch in waiting.popleft()]

    def _step(self, step: StepParts, parts: Sequence[Part]) -> None:
        how, position = self.how, self.position
        characters = sum(len(example.spoken.labels) for part in step for example in part)
        stream = draw_lengths((how.seed, position.step, 7), how.streamed_share)
        seed = how.seed * 1_000_003 + position.step
        done = self.learner.update(parts, characters, how.rate(self.progress), stream, seed)
        position.step, position.at = position.step + 1, position.at + 1
        position.seconds += done.seconds
        position.losses.append(float(done.loss))
        position.wall = self._processes.same(time.monotonic() - self._begun)
        self._not_finite = 0 if done.finite else self._not_finite + 1
        if self._not_finite >= NOT_FINITE:
            raise TrainingError(
                f"the loss was not finite in {NOT_FINITE} updates in a row (step {position.step}): a lower --rate, "
                "such as 0.3, may help; the last state is kept"
            )

    def _after_step(self) -> None:
        self._watch(self.position, self.progress)
        if self.progress >= (self.position.evaluated + 1) / self.how.evaluations:
            self._evaluate()
            self._save_if_possible()
        elif self._processes.any(time.monotonic() - self._saved > self.how.save_seconds):
            self._save_if_possible()

    def _evaluate(self) -> None:
        position, network = self.position, self.learner.network
        self.learner.average.swap(network)
        offline, texts = self._rate(None)
        live, live_texts = self._rate(self._live)
        position.evaluated = int(self.progress * self.how.evaluations + 1e-9)
        position.since_best += offline.words + live.words < 2  # before the first right word nothing can get worse
        if (bad := badness(offline, live)) <= position.best:
            position.best, position.best_step, position.since_best = bad, position.step, 0
            self._best = {name: p.detach().cpu().clone() for name, p in network.named_parameters() if p.requires_grad}
        self.learner.average.swap(network)
        position.wall = self._processes.same(time.monotonic() - self._begun)
        loss = sum(position.losses) / len(position.losses) if position.losses else None
        position.losses = []
        minutes, hours = position.wall / 60, position.seconds / 3600
        words, characters = zip(offline, live, strict=True)
        entry = Evaluation(position.step, position.epoch, self.progress, minutes, hours, loss, *words, *characters)
        if self._processes.first:
            self._write_if_possible(partial(checkpoint.append_history, self.folder / HISTORY, asdict(entry)))
        self._report(entry)
        self._judge(silent=not any(texts) and not any(live_texts))

    def _judge(self, *, silent: bool) -> None:
        """End a run that is over, gets worse, or learns nothing."""
        position = self.position
        if silent and self.progress >= BLANK_UNTIL:
            self._save_if_possible()
            raise TrainingError(
                f"after {position.step} steps the output is still blank. Usual causes: texts that belong to other "
                "recordings, too little audio for a new vocabulary (an hour is little), or too few steps"
            )
        if self.progress >= 1:
            position.ended = "done"
        elif position.since_best >= self.how.patience and self.progress >= BLANK_UNTIL:
            position.ended = (
                f"validation has not improved for {position.since_best} evaluations; the weights of step "
                f"{position.best_step} are kept"
            )

    def _rate(self, stream: StepLengths | None) -> tuple[ErrorRates, list[str]]:
        """Error rates on validation, and the texts."""
        samples = [samples for _, samples in self._validation]
        texts = transcribe(self.learner.network, samples, self._text, self.learner.device, stream, self._part_seconds)
        wanted = [self._units(spoken.text) for spoken, _ in self._validation]
        return ErrorRates.of(wanted, [self._units(text) for text in texts]), texts

    def _units(self, text: str) -> str:
        """The text as words; its characters in a vocabulary without word boundaries."""
        return text if self._vocabulary.separator else " ".join(text)

    def _text(self, logits: NDArray[np.float32]) -> str:
        top = logits.max(-1, keepdims=True)
        rows = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
        return self._vocabulary.join(word.text for word in decode(rows, self._vocabulary))

    def save(self) -> None:
        """Write the state, whole or not at all. Raises `TrainingError`."""
        self._saved = time.monotonic()
        if not self._processes.first:
            return
        state = {"key": self._key, "position": asdict(self.position), "best": self._best}
        try:
            checkpoint.save(self.folder / STATE, self.learner.state() | state)
        except OSError as error:
            raise TrainingError(
                f"cannot write {self.folder / STATE}: {error.strerror}; free some space: the same command continues "
                "from the last saved state"
            ) from error

    def _save_if_possible(self) -> None:
        self._write_if_possible(self.save)

    def _write_if_possible(self, write: Callable[[], None]) -> None:
        """Write, or say why not and go on: a later save may find space on the disk."""
        try:
            write()
        except (OSError, TrainingError) as error:
            self._say(f"The run goes on, but this was not saved: {error}.")

    def _fingerprint(self) -> str:
        """Changes with everything that a run must keep to be continued."""
        how = asdict(self.how)
        for free in ("minutes", "save_seconds"):
            how.pop(free)
        shapes = [(name, list(p.shape)) for name, p in self.learner.network.named_parameters() if p.requires_grad]
        data = [(str(each.path), each.text) for each in self._spoken]
        content: list[Any] = [how, self._part_seconds, shapes, data]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()
