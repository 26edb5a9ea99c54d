"""A fine-tuning run from its tables to a checkpoint: look, fit, train, export."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError

from ..streaming.model.assemble import live_lookahead_ms
from .base import Base, find_base, load_base
from .errors import TrainingError
from .export import export
from .finetune import HISTORY, STATE, Evaluation, FineTuner, RunPosition
from .learner import Learner
from .memory import Fit, fit, free_memory
from .methods import NEW_HEAD_PEAK, PEAKS, Method, merge, optimiser, prepare
from .network import Network, StepLengths
from .plan import EDGE, Examples, plan_epoch
from .precision import has_bfloat16
from .processes import Processes
from .recordings import Audio, Listed, decode
from .settings import Augmentation, FineTuning
from .survey import Choice, Spoken, Survey, spread, survey

FOLDER: Final = ".training"  # inside the folder of the checkpoint
LARGE: Final = 600e6  # parameters from which LoRA is the default
EPOCHS: Final = 30  # without --steps and --minutes
FEWEST_STEPS, MOST_STEPS = 300, 20_000  # of that default
CHECKED_SECONDS: Final = {"cpu": 60.0, "cuda": 1200.0}  # of validation in each evaluation of a run
STEP_SECONDS: Final = {"cpu": 32.0, "cuda": 320.0}  # padded audio of an update


@dataclass(frozen=True, slots=True)
class FineTuneRequest:
    """The user's wishes; None lets the program choose."""

    base: str
    out: Path
    revision: str | None = None
    language: str | None = None  # of an adapter
    method: Method | None = None
    choice: Choice = "auto"
    minutes: float | None = None
    steps: int | None = None
    rate: float = 1.0  # share of the peak rates
    batch_seconds: float | None = None
    seed: int = 1
    threads: int | None = None
    device: str = "auto"
    restart: bool = False


class FineTuneRun:
    """The stages in order: `look`, then `load`, `train`, `export`. `say` gets a sentence for the user."""

    def __init__(self, request: FineTuneRequest, say: Callable[[str], None]) -> None:
        self.request, self.say = request, say
        self.folder = request.out / FOLDER
        self.processes = Processes.launched(cpu=request.device == "cpu")
        self.device = self.processes.device or _device(request.device)
        self.base: Base = find_base(request.base, request.revision, adapter=request.language)
        self.live = StepLengths.live(live_lookahead_ms(self.base.config))
        self.method: Method = request.method or "full"
        self.audio: Audio
        self.survey: Survey
        self.noise: list[Any] = []
        self.fit: Fit
        self.how: FineTuning
        self.tuner: FineTuner

    def look(
        self,
        training: Sequence[Listed],
        validation: Sequence[Listed] | None,
        noise: Sequence[Path] = (),
        advance: Callable[[], None] = lambda: None,
    ) -> Survey:
        """Decode all recordings and look at them and their texts. Raises `TrainingError`."""
        listed = [*training, *(validation or ()), *(Listed(path, "") for path in noise)]
        self._open_folder()
        if self.processes.first:
            decode(listed, self.folder, advance)
        self.processes.wait()
        self.audio, rows = decode(listed, self.folder)
        pairs = [*zip(listed, rows, strict=True)]
        first, last = len(training), len(training) + len(validation or ())
        held = None if validation is None else pairs[first:last]
        self.survey = survey(pairs[:first], held, self.base.vocabulary, self.request.choice)
        self.noise = [self.audio(row) for _, row in pairs[last:] if not row.problem]
        return self.survey

    def load(self) -> None:
        """Load the base, choose the method and the parts of a step. Raises `ModelError` and `TrainingError`."""
        request, alphabet = self.request, self.survey.alphabet
        model = load_base(self.base, alphabet.tokens if alphabet else None, seed=request.seed)
        parameters = sum(p.numel() for p in model.parameters())
        if request.language is not None:
            self.method = "adapter"
        elif request.method is None:
            self.method = "lora" if parameters > LARGE else "full"
        model = prepare(model, self.method, seed=request.seed)
        self.how = self._settings(new_head=alphabet is not None or self.base.vocabulary is None)
        self.fit = self._fit(model)
        torch.set_num_threads(1 if self.fit.threads > 1 else self._threads)
        network = Network(model.to(self.device), recompute=self.fit.recompute)
        steps = self.how.steps or self._default_steps()
        self.how = replace(self.how, steps=steps if steps else None)
        trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
        self.say(f"Method: {self.method}, {trained / 1e6:.1f} of {parameters / 1e6:.0f} million parameters train.")
        self.say(f"Memory: {self.fit}.")
        self._network = network

    def train(
        self,
        watch: Callable[[RunPosition, float], None],
        report: Callable[[Evaluation], None],
        asked_to_stop: Callable[[], bool],
    ) -> bool:
        """Train, or continue. False after `asked_to_stop`; the same call later continues. Raises `TrainingError`."""
        several = self.processes.count > 1
        learner = Learner(
            self._network,
            [optimiser(self._network, self.how)],
            device=self.device,
            threads=self.fit.threads,
            blank=self.survey.vocabulary.blank,
            ema=self.how.ema,
            reduce=self.processes.add if several else None,
        )
        self.tuner = FineTuner(
            learner,
            Examples(self.audio, self.noise, self.how.augmentation, normalized=self.base.normalized),
            self.survey.training,
            [(each, self.samples(each)) for each in self.checked()],
            self.survey.vocabulary,
            self.how,
            part_seconds=self.fit.part_seconds,
            folder=self.folder,
            processes=self.processes,
            live=self.live,
            makers=min(8, self._threads) if self.device.type == "cuda" else 0,
            watch=watch,
            report=report,
            say=self.say,
        )
        if self.tuner.resume():
            self.say(f"Continues at step {self.tuner.position.step}.")
        return self.tuner.run(asked_to_stop)

    def export(self) -> list[Path]:
        """Write the checkpoint; return its files with weights. Raises `TrainingError`."""
        alphabet, out = self.survey.alphabet, self.request.out
        model = merge(self._network.model, self.method)
        try:
            return export(model, self.base, alphabet.tokens if alphabet else None, out)
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"cannot write the checkpoint to {out}: {error}; the same command tries again with the trained weights"
            ) from error

    def samples(self, spoken: Spoken) -> Any:
        """The samples of a recording as the model expects them, (n,) float32."""
        from ..streaming.audio.normalize import normalize

        samples = self.audio(spoken.decoded)
        return normalize(samples) if self.base.normalized else samples

    def checked(self) -> list[Spoken]:
        """The validation recordings of the evaluations during a run: few, so that an evaluation takes little time."""
        return spread(self.survey.validation, CHECKED_SECONDS[self.device.type])

    @property
    def _threads(self) -> int:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.request.threads or cores

    def _settings(self, *, new_head: bool) -> FineTuning:
        request, peak = self.request, PEAKS[self.method] * self.request.rate
        raw = not self.base.normalized
        augmentation = Augmentation(gain=(-1.5, 1.0) if raw else (-0.3, 0.3))
        return FineTuning(
            steps=request.steps,
            minutes=request.minutes,
            batch_seconds=request.batch_seconds or STEP_SECONDS[self.device.type],
            peak=peak,
            head_peak=NEW_HEAD_PEAK * request.rate if new_head else peak,
            seed=request.seed,
            augmentation=augmentation,
        )

    def _fit(self, model: Any) -> Fit:
        """The parts of a step, equal in all processes: those of the run that continues, or as free memory allows."""
        path = self.folder / "fit.json"
        continues = (self.folder / STATE).exists() and path.exists()
        if self.processes.first and not continues:
            path.write_text(json.dumps(asdict(self._cut(model))), encoding="utf-8")
        self.processes.wait()
        return Fit(**json.loads(path.read_text(encoding="utf-8")))

    def _cut(self, model: Any) -> Fit:
        longest = max(each.decoded.seconds for each in (*self.survey.training, *self.survey.validation))
        return fit(
            model,
            free=free_memory(self.device),
            longest=(longest + 2 * EDGE) / self.how.augmentation.speed[0],
            batch_seconds=self.how.batch_seconds / self.processes.count,
            threads=self._threads if self.device.type == "cpu" else 1,
            bfloat16=has_bfloat16(self.device),
        )

    def _default_steps(self) -> int:
        """A fixed number of epochs, if the user gives neither steps nor minutes; otherwise 0."""
        if self.how.minutes:
            return 0
        how, spoken = self.how, self.survey.training
        plan = plan_epoch(0, spoken, how.batch_seconds, self.fit.part_seconds, how.seed, how.augmentation)
        return min(MOST_STEPS, max(FEWEST_STEPS, EPOCHS * len(plan)))

    def _open_folder(self) -> None:
        out = self.request.out
        if out.exists() and any(out.iterdir()) and not self.folder.is_dir():
            raise TrainingError(f"{out} holds other files: give an empty or new folder with --out")
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (STATE, HISTORY) if self.request.restart and self.processes.first else ():
            (self.folder / name).unlink(missing_ok=True)
        self.processes.wait()


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("no CUDA device is available here; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
