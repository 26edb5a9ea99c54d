"""`xlsr-live bench translation`: the quality, lag and cost of translations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ...streaming.config import SessionConfig
from ...streaming.protocol.events import Final as FinalEvent
from ...streaming.protocol.events import Translation, Warning
from ..console import needs
from ..options.model import language_option, load_recognizer, recognizer_options, take_model_options, translator_options
from ..output.latency import percentiles
from ..output.progress import progress
from .options import data_options

if TYPE_CHECKING:
    from ...streaming.recognizer import Recognizer
    from ...streaming.translation.routes import Route
    from .corpus import CorpusRecording
    from .tables import Table

EPILOG = """\b
Examples:
  xlsr-live bench translation talks.tsv --translate es
  xlsr-live bench translation talks.tsv --translate fr --translator Helsinki-NLP/opus-mt-en-fr --out results/
\b
The table has the columns file, text (the transcript) and translation, as those of CoVoST. Case and punctuation do
not count, since CTC models write none.
"""
TOKENIZERS: Final = {"zh": "zh", "ja": "char", "ko": "char", "th": "char"}  # of sacrebleu; else 13a


@click.command("translation", epilog=EPILOG, short_help="BLEU, chrF, lag and cost of translations.")
@data_options
@click.option("--translate", "target", required=True, metavar="LANGUAGE", help="The language of the references.")
@translator_options
@recognizer_options()
@language_option
def translation(
    data: Path | None, where: tuple[str, ...], limit: int | None, out: Path | None, target: str, **options: Any
) -> None:
    """Translate finals, and the true text, and compare both with a reference translation."""
    if data is None:
        raise click.UsageError("a table with reference translations is needed: bench translation TABLE")
    with needs("translate", "this benchmark"):
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF

        from ...streaming.translation.routes import find_route
        from . import corpus, tables

    recordings = corpus.read_translated(data, where=where, limit=limit)
    selection = take_model_options(options | {"translate_to": (target,)}, threads=1)
    with load_recognizer(selection) as recognizer:
        service = recognizer.translation
        assert service is not None
        route = find_route(service.translators, recognizer.spoken_language, target)
        tokenizer = TOKENIZERS.get(route.language.partition("-")[0], "13a")
        measured = TranslationTrial(target, route, BLEU(tokenize=tokenizer), CHRF())
        with progress(len(recordings)) as (advance, _):
            for recording in recordings:
                measured.add(recognizer, recording)
                advance()
        names = ", ".join(translator.name for translator in service.translators)
        shown = [summarize(measured, names)]
        tables.show(shown)
        if out:
            report = tables.provenance("translation") | {
                "model": recognizer.info,
                "translators": names,
                "data": str(data),
                **measured.report(),
            }
            for path in tables.write(out, "translation", shown, report):
                click.echo(f"written: {path}")


@dataclass
class TranslationTrial:
    """Translations into one language, of finals and of the true text."""

    language: str  # as the user writes it
    route: Route
    bleu: Any  # sacrebleu's metrics
    chrf: Any
    references: list[str] = field(default_factory=list[str])
    of_finals: list[str] = field(default_factory=list[str])
    of_truth: list[str] = field(default_factory=list[str])
    lags: list[float] = field(default_factory=list[float])  # seconds after the final
    finals: int = 0
    problems: list[str] = field(default_factory=list[str])
    speech_s: float = 0.0
    busy_s: float = 0.0  # of the translator, for finals

    def add(self, recognizer: Recognizer, recording: CorpusRecording) -> None:
        """Recognize a recording and translate its finals; translate its true text with the same translator."""
        service = recognizer.translation
        assert service is not None
        before = service.counters.busy_s
        texts: list[str] = []
        lags: dict[int, float] = {}
        for event in recognizer.stream(recording.path, SessionConfig(translate_to=(self.language,), partials=False)):
            match event:
                case FinalEvent():
                    self.finals += 1
                    self.speech_s += event.end - event.start
                    lags[event.utterance] = event.lag_ms
                case Translation():
                    texts.append(event.text)
                    self.lags.append((event.lag_ms - lags[event.utterance]) / 1000)
                case Warning(code="not_translated"):
                    self.problems.append(event.message)
                case _:
                    pass
        self.busy_s += service.counters.busy_s - before
        self.references.append(recording.translation)
        self.of_finals.append(" ".join(texts))
        self.of_truth.append(_translated(self.route, recording.text))

    def scores(self, texts: Sequence[str]) -> dict[str, float]:
        """BLEU and chrF, in percent, of the whole corpus."""
        hypotheses, references = [plain(text) for text in texts], [[plain(text) for text in self.references]]
        metrics = {"bleu": self.bleu, "chrf": self.chrf}
        return {name: metric.corpus_score(hypotheses, references).score for name, metric in metrics.items()}

    def report(self) -> dict[str, Any]:
        """All figures and texts, for JSON."""
        finals, truth = self.scores(self.of_finals), self.scores(self.of_truth)
        return {
            "language": self.language,
            "finals": finals,
            "true_text": truth,
            "signatures": [str(metric.get_signature()) for metric in (self.bleu, self.chrf)],
            "lag_s": percentiles(self.lags),
            "translator_s_per_s": self.busy_s / self.speech_s if self.speech_s else None,
            "problems": self.problems,
            "texts": [
                {"reference": reference, "of_finals": final, "of_true_text": truth}
                for reference, final, truth in zip(self.references, self.of_finals, self.of_truth, strict=True)
            ],
        }


def plain(text: str) -> str:
    """The text without case and punctuation."""
    return " ".join(re.sub(r"[^\w\s']", " ", text.casefold()).split())


def summarize(measured: TranslationTrial, names: str) -> Table:
    """One table: quality of both, lag and cost."""
    from .tables import Table

    lag = percentiles(measured.lags)
    cost = f"{1000 * measured.busy_s / measured.speech_s:.0f} ms" if measured.speech_s else "-"
    rows = [
        ["finals", *(f"{score:.1f}" for score in measured.scores(measured.of_finals).values())],
        ["true text", *(f"{score:.1f}" for score in measured.scores(measured.of_truth).values())],
    ]
    late = f"{lag['p50']:.3f} s (p50), {lag['p95']:.3f} s (p95)" if lag["count"] else "none"
    notes = [
        f"lag after the final: {late}",
        f"translator: {cost} for each second of speech; {measured.finals} finals, {len(measured.problems)} problems",
        "BLEU and chrF by sacrebleu over the whole corpus, without case and punctuation",
    ]
    return Table(f"Into {measured.language}, by {names}", ["translation of", "BLEU", "chrF"], rows, notes)


def _translated(route: Route, text: str) -> str:
    """The translation of a text; empty without a translator of text."""
    from ...streaming.translation.translator import Segment

    if route.translator is None or route.translator.speech or not text:
        return ""
    (translated,) = route.translator.translate([Segment(text, None, route.source, route.target)])
    return translated
