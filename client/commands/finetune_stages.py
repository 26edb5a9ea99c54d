"""The stages of `xlsr-live finetune` with their output: look, train, export, measure, calibrate, card."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from ...streaming.config import ModelOptions
from ...streaming.errors import ModelError
from ...streaming.recognizer import Recognizer
from ...training.card import Card, Figures, licence_of, write_card
from ...training.curves import draw, read_history
from ...training.finetune import HISTORY, Evaluation, RunPosition
from ...training.recordings import Listed
from ...training.run import FineTuneRequest, FineTuneRun, seconds_of
from ...training.stopping import StopRequest
from ...training.survey import Spoken
from ..bench.corpus import CorpusRecording, read_corpus
from ..bench.tables import describe, machine
from ..console import steerable
from ..options.model import load_recognizer
from ..output.progress import progress
from ..sources.recordings import find_recordings
from .calibrate import collect, report
from .finetune_figures import measure

MEASURED_SECONDS: Final = 1800.0  # of validation, at most, for the figures of the card
ESTIMATE_AFTER: Final = 10  # updates


def run(
    request: FineTuneRequest, data: Path, validation: Path | None, noise: Path | None, data_licence: str, *, check: bool
) -> int:
    """Run all stages; return the exit status. Raises `XlsrLiveError`."""
    listed = _listed(data)
    held = _listed(validation) if validation else None
    clips = list(find_recordings(noise)) if noise else []
    task = FineTuneRun(request, _say)
    say = task.say = _say if task.processes.first else _say_nothing
    with progress(len(listed) + len(held or ()) + len(clips)) as (advance, _):
        found = task.look(listed, held, clips, advance)
    for sentence in found.sentences:
        say(sentence)
    training, kept = seconds_of(found.training), seconds_of(found.validation)
    say(
        f"Training: {len(found.training)} recordings, {training / 60:.1f} min; validation: {len(found.validation)} "
        f"recordings, {kept / 60:.1f} min."
    )
    if check:
        return 0
    task.load()
    with StopRequest() as stop, _shown(task, say) as (watch, show):
        done = task.train(watch, show, lambda: stop.asked)
    if not done:
        say(f"Stopped at step {task.tuner.position.step}; the same command continues.")
        return 130
    if task.processes.first:
        _finish(task, data_licence)
    task.processes.wait()
    return 0


def _listed(table: Path) -> list[Listed]:
    return [Listed(each.path, each.text, each.speaker) for each in read_corpus(table)]


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)


def _say_nothing(sentence: str) -> None: ...


@contextmanager
def _shown(
    task: FineTuneRun, say: Callable[[str], None]
) -> Generator[tuple[Callable[[RunPosition, float], None], Callable[[Evaluation], None]]]:
    """What shows updates, and what shows evaluations: a bar on a terminal, lines elsewhere."""
    began = time.monotonic()
    first: list[tuple[float, float]] = []  # clock and progress of the first update
    bar, update = _bar(task.processes.first)
    rates = ""

    def watch(position: RunPosition, done: float) -> None:
        update(done, f"loss {position.losses[-1]:.2f}  {rates}")
        first.append((time.monotonic(), done)) if len(first) <= ESTIMATE_AFTER else None
        if len(first) == ESTIMATE_AFTER and done < 1:
            speed = (first[-1][1] - first[0][1]) / (first[-1][0] - first[0][0])
            say(f"About {(1 - done) / max(speed, 1e-9) / 60:.0f} minutes of training are left.")

    def show(found: Evaluation) -> None:
        nonlocal rates
        rates = f"WER offline {100 * found.offline:.1f} %, live {100 * found.live:.1f} %"
        loss = "" if found.loss is None else f", loss {found.loss:.3f}"
        say(f"step {found.step}, {found.minutes:.1f} min{loss}, {rates}")

    with bar:
        yield watch, show
    say(f"Trained for {(time.monotonic() - began) / 60:.1f} minutes.")


def _bar(wanted: bool) -> tuple[Any, Callable[[float, str], None]]:
    """A bar on a terminal, and what moves it."""
    from contextlib import nullcontext

    if not wanted or not sys.stderr.isatty() or not steerable():
        return nullcontext(), lambda done, text: None
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn(compact=True)
    bar = Progress(*columns, console=Console(stderr=True, no_color=True), transient=True)
    shown = bar.add_task("", total=1.0)
    return bar, lambda done, text: bar.update(shown, completed=done, description=text)


def _finish(task: FineTuneRun, data_licence: str) -> None:
    """Export, measure base and result, calibrate, write the card, and say how to serve the result."""
    request, out = task.request, task.request.out
    if task.tuner.position.ended != "done":
        task.say(f"Ended early: {task.tuner.position.ended}.")
    weights = task.export()
    task.say(f"Written: {', '.join(path.name for path in weights)} in {out}")
    recordings = _spread(task.survey.validation)
    figures: list[Figures] = []
    if task.base.vocabulary is not None and request.language is None:
        with _recognizer(task, request.base, request.revision, None) as recognizer:
            figures.append(measure(f"base ({request.base})", recognizer, recordings))
    with _recognizer(task, str(out), None, request.language) as recognizer:
        figures.append(measure("fine-tuned", recognizer, recordings))
        _calibrate(task, recognizer, recordings)
    for each in figures:
        task.say(f"WER of {each.name}: offline {each.offline} %, live {each.live} %, finals {each.final} %")
    draw(read_history(task.folder / HISTORY), out / "curves.png")
    serve = shlex.join(["xlsr-live", "serve", "--model", str(out)])
    if request.language is not None:
        serve += f" --language {request.language}"
    write_card(_card(task, figures, data_licence, serve), out)
    task.say(f"Written: README.md and curves.png in {out}; {task.folder} is no longer needed.")
    click.echo(f"Serve it:  {serve}")


def _calibrate(task: FineTuneRun, recognizer: Recognizer, recordings: Sequence[CorpusRecording]) -> None:
    with progress(len(recordings)) as (advance, _):
        collected = collect(recognizer, recordings, advance)
    try:
        report(collected, None, task.request.out, None)
    except ModelError as error:
        task.say(f"Not calibrated: {error}.")


def _recognizer(task: FineTuneRun, model: str, revision: str | None, language: str | None) -> Recognizer:
    options = ModelOptions(model, revision=revision, language=language, device=task.device.type, lm="none")
    return load_recognizer(options)


def _spread(held: Sequence[Spoken]) -> list[CorpusRecording]:
    """Validation recordings for the figures, evenly spread if there are very many."""
    count = max(1, round(len(held) * min(1.0, MEASURED_SECONDS / seconds_of(held))))
    chosen = [held[place * len(held) // count] for place in range(count)]
    return [CorpusRecording(each.path, each.text, each.speaker) for each in chosen]


def _card(task: FineTuneRun, figures: Sequence[Figures], data_licence: str, serve: str) -> Card:
    position, how, request, found = task.tuner.position, task.how, task.request, task.survey
    settings = {
        "method": task.method,
        "updates": f"{position.step}, weights of step {position.best_step}",
        "audio": f"{position.seconds / 3600:.2f} hours, {position.epoch} times all recordings",
        "time": f"{position.wall / 60:.0f} minutes",
        "seconds of audio in an update": f"{how.batch_seconds:g}",
        "peak rate": f"{how.peak:g}, head {how.head_peak:g}",
        "updates with live attention": f"{100 * how.streamed_share:g} %",
        "seed": str(how.seed),
    }
    data = [
        f"Training: {len(found.training)} recordings, {seconds_of(found.training) / 60:.1f} minutes, "
        f"{len({each.speaker for each in found.training})} speakers.",
        f"Validation: {len(found.validation)} recordings, {seconds_of(found.validation) / 60:.1f} minutes, "
        f"{len({each.speaker for each in found.validation})} speakers.",
        *found.sentences,
    ]
    return Card(
        name=request.out.name,
        base=request.base,
        base_licence=licence_of(task.base),
        data_licence=data_licence,
        language=request.language,
        settings=settings,
        data=data,
        figures=figures,
        command=shlex.join(["xlsr-live", *sys.argv[1:]]),
        serve=serve,
        machine=describe(machine()),
    )
