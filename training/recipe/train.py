"""Training that can be resumed: warm-up, a constant rate without a fixed end, and a decay when a model is needed.

`stable.pt` holds the stable phase. A decay continues from it in `decay.pt` with a rate that falls to zero. It does not
change `stable.pt`, so that the stable phase can continue later with more time or a better machine.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from tqdm import tqdm

from .. import checkpoint
from ..learner import Learner, draw_lengths
from ..muon import muon
from ..network import Network, StepLengths
from ..settings import Augmentation
from ..stopping import StopRequest
from .data import Rounds, Speech, loader
from .model import build, exported
from .phrases import phrases
from .plan import KINDS, Step, kind, plan_round
from .prepare import PHRASE
from .runs import set_aside
from .score import Clip, rates, transcribe, validation
from .settings import LIVE_LOOKAHEAD_MS, RATE, Optimiser, Options, Work
from .teacher import Teacher
from .text import BLANK

SAVE_SECONDS = 300.0


class Trainer:
    """One run: network, optimisers, average of the weights, and the position in the plan."""

    def __init__(self, work: Work, options: Options):
        self.work, self.options = work, options
        self.optimiser = Optimiser(
            matrices=options.matrices,
            peak=options.peak * Optimiser.peak,
            matrix_peak=options.peak * Optimiser.matrix_peak,
            streamed_share=options.streamed_share,
        )
        self.schedule = options.schedule
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        work.run.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(self.schedule.seed)
        self.network = Network(build(options.model))
        self.network.to(self.device).centre()
        folder, hidden = options.teacher, options.model.hidden
        self.teacher = Teacher(folder, hidden, self.device) if folder else None
        self.learner = self._learner()
        self.step, self.round, self.at, self.heard, self.wall = 0, 0, 0, 0.0, 0.0
        self.kinds = dict.fromkeys(KINDS, 0.0)  # seconds of recordings by kind
        self.decay_from, self.began = 0, 0  # round and step of the stable phase at which a decay begins
        self.decay_wall = 0.0  # seconds of training before the decay
        self.done = False  # the last round is over, or the time of a decay
        self.late, self.signals, self.saved = False, StopRequest(), time.monotonic()
        self.path = work.run / ("decay.pt" if options.decay else "stable.pt")
        self._resume()
        self.last = self.decay_from + options.decay if options.decay else options.rounds

    def _learner(self) -> Learner:
        how = self.optimiser
        return Learner(
            self.network,
            optimisers(self.network, how),
            device=self.device,
            threads=self.options.shards,
            blank=BLANK,
            middle=how.middle_loss,
            clip=how.clip,
            ema=how.ema,
            after=self.network.centre,
            guide=self.teacher,
        )

    def _resume(self) -> None:
        source = self._source()
        if source is None:
            if self.options.start:
                self._warm_start(self.options.start)
            return
        state = checkpoint.restore(source)
        if len(state["optimisers"]) != len(self.learner.optimisers):
            raise SystemExit(f"{source} was trained with another optimiser than --matrices {self.optimiser.matrices}")
        self.learner.load(state)
        self.step, self.round, self.at = state["step"], state["round"], state["at"]
        self.heard, self.wall, self.decay_from = state["heard"], state["wall"], state["decay_from"]
        self.kinds |= state.get("kinds", {})
        self.began, self.decay_wall = state.get("began", 0), state.get("decay_wall", 0.0)
        self.done = bool(self.options.decay) and source == self.path and state.get("done", False)
        parts = (state["batch_seconds"], state.get("shards", self.options.shards))
        if parts != (self.options.batch_seconds, self.options.shards) and self.at:
            print(f"step sizes differ from {source.name}: the rest of round {self.round} is skipped")
            self.round, self.at = self.round + 1, 0
        if source != self.path:
            self.decay_from, self.began, self.decay_wall = self.round, self.step, self.wall
        print(f"resumed {source.name}: round {self.round}, step {self.step}", flush=True)

    def _warm_start(self, folder: Path) -> None:
        """Take the weights of an exported checkpoint. The optimisers start fresh; the curriculum is over."""
        self.network.load_state_dict(exported(folder).state_dict())
        self.network.centre()
        self.learner = self._learner()
        self.round = self.schedule.spliced_from
        print(f"weights of {folder}, round {self.round}", flush=True)

    def _source(self) -> Path | None:
        """The checkpoint to continue from.

        A decay continues if it has the requested number of rounds and began at the present end of the stable phase. Any
        other decay is renamed, and a new one begins there.
        """
        stable = self.work.run / "stable.pt"
        if not self.options.decay:
            return stable if stable.exists() else None
        if not stable.exists():
            raise SystemExit(f"nothing to decay: there is no {stable}")
        if not self.path.exists():
            return stable
        state, step = checkpoint.restore(self.path), checkpoint.restore(stable)["step"]
        if (state.get("decay"), state.get("began")) == (self.options.decay, step):
            return self.path
        aside = set_aside(self.path)
        print(
            f"decay.pt belongs to another decay: renamed to {aside.name}; a new one begins at {stable.name}",
            flush=True,
        )
        return stable

    def save(self) -> None:
        state = self.learner.state() | {
            "batch_seconds": self.options.batch_seconds,
            "shards": self.options.shards,
            "decay": self.options.decay,
        }
        places = ("step", "round", "at", "heard", "wall", "kinds", "decay_from", "began", "decay_wall", "done")
        state |= {name: getattr(self, name) for name in places}
        checkpoint.save(self.path, state)
        self.saved = time.monotonic()

    def rate(self, progress: float) -> float:
        """Learning rate as a share of the peak, `progress` (0-1) of this round done. That of a decay reaches zero after
        its rounds or its minutes, whichever are over first."""
        warm = min(1.0, (self.step + 1) / self.optimiser.warmup_steps)
        if not self.options.decay:
            return warm
        rounds = (self.round - self.decay_from + progress) / self.options.decay
        minutes = (self.wall - self.decay_wall) / (60 * self.options.within)
        return warm * max(0.0, 1 - max(rounds, minutes))

    def run(self) -> bool:
        """Train until the last round or the end of a decay, and return True; or until the time is up or a
        signal asks to stop, and return False.

        Both save a checkpoint. A second signal ends the program at once.
        """
        with StopRequest() as self.signals:
            if self.round < self.last and not self.done:
                self._rounds()
                self.save()
            else:
                print(f"{self.path.name} is done: {self.round} rounds", flush=True)
        return self.done or self.round >= self.last

    @property
    def stopped(self) -> bool:
        """The time is up, or a signal came."""
        return self.late or self.signals.asked

    def _rounds(self) -> None:
        speech = Speech(self.work)
        clips = validation(speech)[:: 20 if self.work.scrap else 1]
        deadline = time.monotonic() + 60 * self.options.minutes
        while self.round < self.last and not self.stopped:
            strength = min(1.0, self.round / self.schedule.full_augmentation_round)
            how = Augmentation().scaled(strength)
            if self.round >= self.schedule.spliced_from and not any(u.split == PHRASE for u in speech.utterances):
                self.learner.average.swap(self.network)
                speech.utterances += phrases(self.work, speech, self.network)
                self.learner.average.swap(self.network)
            size, shards = self.options.batch_seconds, self.options.shards
            plan = plan_round(self.round, speech.utterances, size, shards, self.schedule, how)
            loss, speed = self._round(plan, Rounds(speech, plan, how, clean=self.teacher is not None), deadline)
            self.done |= self.at == len(plan) and self.round + 1 >= self.last
            if self.at < len(plan) and not self.done:
                return
            self.round, self.at = self.round + 1, 0
            print(f"round {self.round} step {self.step} loss {loss:.3f} {speed:.0f} audio-s/s", flush=True)
            if self.round % self.options.evaluate_every == 0 or self.done:
                self.evaluate(clips, loss, speed)
            if self.done:
                return

    def _round(self, plan: list[Step], rounds: Rounds, deadline: float) -> tuple[float, float]:
        """Train the rest of a round, or until the time is up; return mean loss and seconds of audio per second."""
        if self.teacher and not self.teacher.measured:
            every = max(1, len(plan) // self.teacher.how.measured)
            self.teacher.measure(rounds[step, 0] for step in range(0, len(plan), every))
        batches = loader(rounds, self.at, self.options.workers)
        losses, began, heard = [], time.monotonic(), self.heard
        wall = self.wall - began
        for parts in (bar := tqdm(batches, f"round {self.round}", len(plan), initial=self.at, mininterval=10)):
            items = [item for part in plan[self.at] for item in part]
            characters = sum(len(item.text) for item in items)
            for utterance in (u for item in items for u in item.parts):
                self.kinds[kind(utterance.corpus)] += utterance.samples / RATE
            seed = self.schedule.seed * 1_000_003 + self.step
            stream = draw_lengths((self.schedule.seed, self.step, 7), self.optimiser.streamed_share)
            done = self.learner.update(parts, characters, self.rate(self.at / len(plan)), stream, seed)
            losses.append(done.loss)
            self.heard += done.seconds
            bar.set_postfix(loss=f"{torch.stack(losses[-20:]).mean().item():.2f}", refresh=False)
            self.step, self.at, self.wall = self.step + 1, self.at + 1, wall + time.monotonic()
            self.late |= time.monotonic() > deadline
            self.done |= self.rate(self.at / len(plan)) <= 0
            if self.stopped or self.done:
                break
            if time.monotonic() - self.saved > SAVE_SECONDS:
                self.save()
        loss = torch.stack(losses).mean().item() if losses else float("nan")
        return loss, (self.heard - heard) / (time.monotonic() - began)

    def evaluate(self, clips: list[Clip], loss: float, speed: float) -> None:
        """Validation WER of the averaged weights, offline and live: printed, and a line of the .jsonl file."""
        self.learner.average.swap(self.network)
        modes = (None, StepLengths.live(LIVE_LOOKAHEAD_MS))
        texts = self.learner.pool.map(lambda stream: transcribe(self.network, clips, self.device, stream), modes)
        offline, live = (rates(clips, read) for read in texts)
        self.learner.average.swap(self.network)
        entry = {"round": self.round, "step": self.step, "audio_hours": round(self.heard / 3600, 2)}
        entry |= {"minutes": round(self.wall / 60, 1), "loss": round(loss, 4), "speed": round(speed, 1)}
        entry |= {"hours": {name: round(seconds / 3600, 2) for name, seconds in self.kinds.items()}}
        entry |= {"rate": round(self.rate(0.0), 4), "offline": offline, "live": live}
        checkpoint.append_history(self.path.with_name(self.path.stem + ".jsonl"), entry)
        for name, result in (("offline", offline), ("live", live)):
            print(f"  {name:8}" + "  ".join(f"{c} {r:.1f}" for c, r in result.items()), flush=True)


def optimisers(network: Network, how: Optimiser) -> list[torch.optim.Optimizer]:
    """AdamW, and optionally Muon for the matrices of the transformer layers: two of equal size, for two threads."""
    layers = network.model.wav2vec2.encoder.layers
    matrices = [p for p in layers.parameters() if p.ndim == 2] if how.matrices == "muon" else []
    chosen = {id(p) for p in matrices}
    rest = [p for p in network.parameters() if id(p) not in chosen and p.requires_grad]
    decayed, plain = [p for p in rest if p.ndim > 1], [p for p in rest if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": how.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    made: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=how.peak, betas=(0.9, 0.98), eps=1e-8)]
    for first in (0, 1) if matrices else ():
        part = [p for layer in layers[first::2] for p in layer.parameters() if p.ndim == 2]
        made.append(muon(part, rate=how.matrix_peak, weight_decay=how.weight_decay))
    for optimiser in made:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return made
