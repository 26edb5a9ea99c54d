"""A tiny n-gram for tests: its ARPA file, its lexicon, and its scores by the definition of backing off."""

from __future__ import annotations

from pathlib import Path

from xlsr_live.streaming.ctc.lm import Files, LanguageModel, Weights
from xlsr_live.streaming.ctc.vocabulary import Vocabulary

VOCABULARY = Vocabulary.from_tokens(["<pad>", "|", *"ABC"], blank=0)

# log10 probability and back-off weight
NGRAMS: dict[tuple[str, ...], tuple[float, float]] = {
    ("<unk>",): (-2.5, 0.0),
    ("<s>",): (-99.0, -0.3),
    ("</s>",): (-1.0, 0.0),
    ("A",): (-0.5, -0.25),
    ("B",): (-0.9, -0.2),
    ("AB",): (-0.7, -0.4),
    ("BAA",): (-1.6, 0.0),
    ("<s>", "B"): (-0.2, 0.0),
    ("A", "AB"): (-0.3, 0.0),
    ("AB", "BAA"): (-0.15, 0.0),
    ("B", "</s>"): (-0.4, 0.0),
}


def arpa() -> str:
    lines = ["\\data\\", *(f"ngram {n}={sum(len(words) == n for words in NGRAMS)}" for n in (1, 2)), ""]
    for n in (1, 2):
        lines.append(f"\\{n}-grams:")
        for words, (score, backoff) in NGRAMS.items():
            if len(words) == n:
                lines.append(f"{score}\t{' '.join(words)}" + (f"\t{backoff}" if n == 1 else ""))
        lines.append("")
    return "\n".join([*lines, "\\end\\", ""])


def score(words: list[str]) -> float:
    """log10 probability of a sentence."""
    total, before = 0.0, "<s>"
    for word in [*words, "</s>"]:
        word = word if (word,) in NGRAMS else "<unk>"
        if (found := NGRAMS.get((before, word))) is not None:
            total += found[0]
        else:
            total += NGRAMS[before,][1] + NGRAMS[word,][0]
        before = word
    return total


def language_model(
    folder: Path, weights: Weights, vocabulary: Vocabulary = VOCABULARY, lexicon: Path | None = None
) -> LanguageModel:
    path = folder / "tiny.arpa"
    path.write_text(arpa())
    return LanguageModel(Files(path, lexicon, None, weights), vocabulary)
