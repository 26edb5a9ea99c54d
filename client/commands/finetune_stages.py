"""The stages of `xlsr-live finetune` with their output: look, train, export, measure, calibrate, card."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import click

from ...streaming.config import ModelOptions
from ...streaming.errors import ModelError
from ...streaming.recognizer import Recognizer
from ...training.card import Card, Figures, licence_of, write_card
from ...training.curves import draw, read_history
from ...training.finetune import HISTORY
from ...training.ngram import write_ngram
from ...training.recordings import Listed
from ...training.run import FineTuneRequest, FineTuneRun
from ...training.stopping import StopRequest
from ...training.survey import Spoken, counted, seconds_of, spread
from ..bench.corpus import CorpusRecording, read_corpus
from ..bench.tables import describe, machine
from ..options.model import load_recognizer
from ..output.progress import progress
from ..sources.recordings import find_recordings
from .calibrate import collect, report
from .finetune_display import RunDisplay, say
from .finetune_figures import measure

STOPPING: Final = "Stops after this update or evaluation and saves; Ctrl-C again ends it without saving.\n"
MEASURED_SECONDS: Final = 1800.0  # of validation, at most, for the figures of the card


class Extras(NamedTuple):
    """Options of the stages before and after the training."""

    noise: Path | None  # recordings without speech
    ngram: bool  # make an n-gram of the transcripts
    data_licence: str


def run(request: FineTuneRequest, data: Path, validation: Path | None, extras: Extras, *, check: bool) -> int:
    """Run all stages; return the exit status. Raises `XlsrLiveError`."""
    listed = _listed(data)
    held = _listed(validation) if validation else None
    clips = list(find_recordings(extras.noise)) if extras.noise else []
    task = FineTuneRun(request, say)
    task.say = partial(say, wanted=task.processes.first)
    with progress(len(listed) + len(held or ()) + len(clips)) as (advance, _):
        found = task.look(listed, held, clips, advance)
    for sentence in found.sentences:
        task.say(sentence)
    training, kept = seconds_of(found.training), seconds_of(found.validation)
    task.say(
        f"Training: {counted(len(found.training), 'recording')}, {training / 60:.1f} min; validation: "
        f"{counted(len(found.validation), 'recording')}, {kept / 60:.1f} min."
    )
    if check:
        return 0
    task.load()
    with (
        StopRequest(STOPPING if task.processes.first else "") as stop,
        RunDisplay(wanted=task.processes.first) as display,
    ):
        done = task.train(display.watch, display.show, lambda: stop.asked)
    if not done:
        task.say(f"Stopped at step {task.tuner.position.step}; the same command continues.")
        return 130
    if task.processes.first:
        _finish(task, extras)
    task.processes.wait()
    return 0


def _listed(table: Path) -> list[Listed]:
    """The rows of a table; a speaker called - is unknown."""
    return [Listed(each.path, each.text, each.speaker if each.speaker != "-" else "") for each in read_corpus(table)]


def _finish(task: FineTuneRun, extras: Extras) -> None:
    """Export, measure base and result, calibrate, write the card, and say how to serve the result."""
    request, out = task.request, task.request.out
    if task.tuner.position.ended != "done":
        task.say(f"Ended early: {task.tuner.position.ended}.")
    weights = task.export()
    task.say(f"Written: {', '.join(path.name for path in weights)} in {out}")
    ngram = extras.ngram and _ngram(task)
    held = spread(task.survey.validation, MEASURED_SECONDS)
    recordings = [CorpusRecording(each.path, each.text, each.speaker) for each in held]
    figures: list[Figures] = []
    if task.base.vocabulary is not None and request.language is None:
        with load_recognizer(_options(task, request.base, revision=request.revision)) as recognizer:
            figures.append(measure(f"base ({request.base})", recognizer, recordings))
    with load_recognizer(
        _options(task, str(out), language=request.language, lm=None if ngram else "none")
    ) as recognizer:
        name = "fine-tuned, finals with its n-gram" if ngram else "fine-tuned"
        figures.append(measure(name, recognizer, recordings))
        _calibrate(task, recognizer, recordings)
    for each in figures:
        task.say(f"WER of {each.name}: offline {each.offline} %, live {each.live} %, finals {each.final} %")
    draw(read_history(task.folder / HISTORY), out / "curves.png")
    serve = shlex.join(["xlsr-live", "serve", "--model", str(out)])
    if request.language is not None:
        serve += f" --language {request.language}"
    write_card(_card(task, figures, extras.data_licence, serve), out)
    task.say(f"Written: README.md and curves.png in {out}; {task.folder} is no longer needed.")
    click.echo(f"Serve it:  {serve}")


def _calibrate(task: FineTuneRun, recognizer: Recognizer, recordings: Sequence[CorpusRecording]) -> None:
    with progress(len(recordings)) as (advance, _):
        collected = collect(recognizer, recordings, advance)
    try:
        report(collected, None, task.request.out, None)
    except ModelError as error:
        task.say(f"Not calibrated: {error}.")


def _ngram(task: FineTuneRun) -> bool:
    """Write an n-gram of the training transcripts, if the vocabulary has words."""
    if not task.survey.vocabulary.separator:
        task.say("No n-gram: the vocabulary has no word boundary.")
        return False
    path = write_ngram([each.text for each in task.survey.training], task.request.out)
    task.say(f"Written: {path}")
    return True


def _options(
    task: FineTuneRun,
    model: str,
    *,
    revision: str | None = None,
    language: str | None = None,
    lm: str | None = "none",
) -> ModelOptions:
    return ModelOptions(model, revision=revision, language=language, device=task.device.type, lm=lm)


def _extent(spoken: Sequence[Spoken]) -> str:
    speakers = {each.speaker for each in spoken}
    known = "unknown speakers" if speakers == {""} else counted(len(speakers), "speaker")
    return f"{counted(len(spoken), 'recording')}, {seconds_of(spoken) / 60:.1f} minutes, {known}"


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
        f"Training: {_extent(found.training)}.",
        f"Validation: {_extent(found.validation)}.",
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
