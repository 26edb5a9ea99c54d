"""`xlsr-live calibrate`: fit the confidences of a checkpoint, so that they are probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ...streaming.config import AUTO
from ...streaming.errors import ConfigError
from ..console import needs, writing
from ..options.model import (
    device_option,
    language_option,
    lm_option,
    load_recognizer,
    loading_options,
    take_model_options,
)
from ..options.server import refuse
from ..output.progress import progress

if TYPE_CHECKING:
    from ...streaming.ctc.calibration import Calibration
    from ...streaming.recognizer import Recognizer
    from ..bench.corpus import CorpusRecording
    from ..bench.word_correctness import CalibrationData

EPILOG = """\b
Examples:
  xlsr-live calibrate my/xlsr-german recordings/ --lm german.arpa
  xlsr-live calibrate my/xlsr-german dev.tsv --plot reliability.png
  xlsr-live calibrate facebook/wav2vec2-base-960h dev.tsv --out calibration/
  xlsr-live calibrate my/mms dev.tsv --language auto
"""


@click.command(epilog=EPILOG, short_help="Fit confidences to recordings.")
@click.argument("model", metavar="NAME_OR_DIR")
@click.argument("data", type=click.Path(path_type=Path), metavar="DIR_OR_TSV")
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only these rows of the table. May be repeated.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only N recordings, evenly spread over all.")
@lm_option()
@click.option("--test", is_flag=True, help="Only measure the calibration (--calibration, or the model's own).")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for calibration.json. [default: the model's, if it is a local folder]",
)
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="PNG", help="Draw a reliability diagram."
)
@loading_options
@language_option
@device_option("--device")
def calibrate(
    model: str,
    data: Path,
    where: tuple[str, ...],
    limit: int | None,
    test: bool,
    out: Path | None,
    plot: Path | None,
    **options: Any,
) -> None:
    """Fit the confidences of a checkpoint to transcribed recordings that are not in its training data.

    DIR_OR_TSV is a table with the columns file and text, or a folder of pairs such as talk.wav and talk.txt. The result
    is calibration.json in the checkpoint's folder, which every command then uses. For another folder (--out), pass the
    file with --calibration. If label_priors.json lies in that folder, it is measured anew.

    With --language auto it fits the probabilities by which the language of an utterance is identified. The table then
    has a column language, and recordings that begin with speech. Each language's calibration.json keeps its
    confidences.
    """
    with needs("server", "recognizing speech here"), needs("bench", "calibrating"):
        from ..bench.corpus import read_corpus, spoken
        from .calibrate_languages import fit, read_spoken

    if test:
        refuse(("out",), "is for fitting; --test only reads a calibration (--calibration)")
    else:
        refuse(("calibration",), "is for --test; fitting does not use it")
    folder = out or Path(model).expanduser()
    if not test and not out and (model == "bundled" or not folder.is_dir()):
        raise ConfigError(f"{model} is not a local folder: give a folder for calibration.json with --out")
    if options["language"] == AUTO:
        refuse(("test", "plot", "where", "limit", "lm"), "is for confidences, not for --language auto")
        with load_recognizer(take_model_options(options | {"model": model})) as recognizer:
            languages = read_spoken(data, recognizer.languages.known, model)
            with progress(sum(len(each) for each in languages.values())) as (advance, _):
                fit(recognizer, languages, folder, out, advance)
        return
    recordings = spoken(read_corpus(data, where=where, limit=limit))
    with (
        load_recognizer(take_model_options(options | {"model": model})) as recognizer,
        progress(len(recordings)) as (advance, _),
    ):
        own = recognizer.assets.calibration
        if test and (own is None or own.final is None or own.partial is None):
            raise ConfigError(f"{model} has no calibration to test: give one with --calibration")
        collected = collect(recognizer, recordings, advance)
    report(collected, recognizer.assets.calibration if test else None, folder, plot, model)


def collect(
    recognizer: Recognizer, recordings: Sequence[CorpusRecording], advance: Callable[[], None]
) -> CalibrationData:
    """The words of all recordings with their scores, and whether each is correct."""
    from ..bench.corpus import read_samples
    from ..bench.scoring import TextNormalizer
    from ..bench.word_correctness import CalibrationData

    normalizer = TextNormalizer(recognizer.encoder.vocabulary)
    collected = CalibrationData(recognizer.encoder, recognizer.assets.language_model)
    for number, recording in enumerate(recordings):
        collected.add(number, normalizer.words(recording.text), read_samples(recording))
        advance()
    return collected


def report(
    collected: CalibrationData, tested: Calibration | None, folder: Path, plot: Path | None = None, model: str = ""
) -> None:
    """Print the errors of the calibration `tested`, or fit one, write it to `folder` and print its errors."""
    from ...streaming.ctc.calibration import FILE, Calibration, load_calibration, save_calibration
    from ...streaming.ctc.priors import FILE as PRIORS
    from ...streaming.ctc.priors import load_priors, save_priors

    kinds = {"finals": collected.final, "partials": collected.partial}
    if collected.lm:
        kinds["language model"] = collected.beam
        kinds["language model in partials"] = collected.beam_partial
    if tested:
        curves = {"finals": tested.final, "partials": tested.partial, "language model": tested.beam or tested.final}
        curves["language model in partials"] = tested.beam_partial or tested.partial
        results = {name: words.test(curve) for name, words in kinds.items() if (curve := curves[name])}
    else:
        fitted = msgspec.structs.replace(
            load_calibration(folder) or Calibration(),  # which may have the scale of its language
            final=collected.final.fit(),
            partial=collected.partial.fit(),
            beam=collected.beam.fit() if collected.lm else None,
            beam_partial=collected.beam_partial.fit() if collected.lm else None,
        )
        results = {name: words.cross_validate() for name, words in kinds.items()}
        folder.mkdir(parents=True, exist_ok=True)
        with writing(folder / FILE):
            save_calibration(folder, fitted)
        click.echo(f"written: {folder / FILE}")
        if own := load_priors(folder, len(collected.encoder.vocabulary)):
            with writing(folder / PRIORS):
                save_priors(folder, collected.priors.labels(own.scale))
            click.echo(f"written: {folder / PRIORS}")
    for name in results:
        words = kinds[name]
        right = sum(words.right) / len(words.right)
        error = f"expected calibration error {results[name].error:.3f}"
        click.echo(f"{name}: {len(words.right)} words, {100 * right:.1f} % right, {error}")
    if plot:
        from ..bench.plots import reliability, titled

        title = titled(model, len(collected.final.right), "words of finals")
        click.echo(f"written: {reliability(plot, results, title)}")
