"""A word n-gram of the transcripts, as an ARPA file: interpolated Kneser-Ney with one discount for each order
(Kneser and Ney, ICASSP 1995; Chen and Goodman, 1999).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import log10
from pathlib import Path
from typing import Final

ORDER: Final = 3
BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
FOLDER: Final = "language_model"  # where a checkpoint's own n-gram lies
_NEVER: Final = -99.0  # log10 of the probability of <s>, which no decoder reads

Gram = tuple[str, ...]
Counts = Mapping[Gram, int]


def write_ngram(texts: Iterable[str], folder: Path, order: int = ORDER) -> Path:
    """Write `language_model/words.arpa` into `folder` from texts of words between single blanks; return its path."""
    counts = _counts(texts, order)
    probabilities, backoffs = _estimate(counts)
    lines = ["\\data\\", *(f"ngram {n}={len(each)}" for n, each in enumerate(probabilities, 1))]
    for n, grams in enumerate(probabilities, 1):
        lines += ["", f"\\{n}-grams:"]
        for gram, probability in sorted(grams.items()):
            score = _NEVER if gram == (BEGIN,) else log10(probability)
            backoff = f"\t{log10(backoffs[gram]):.5f}" if gram in backoffs else ""
            lines.append(f"{score:.5f}\t{' '.join(gram)}{backoff}")
    path = folder / FOLDER / "words.arpa"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, "", "\\end\\", ""]), encoding="utf-8")
    return path


def _counts(texts: Iterable[str], order: int) -> list[Counter[Gram]]:
    """Counts of each order: of the highest as they occur; of lower ones, the number of different words before them."""
    occurring: list[Counter[Gram]] = [Counter() for _ in range(order)]
    for text in texts:
        words = (BEGIN, *text.split(), END)
        for n in range(1, order + 1):
            occurring[n - 1].update(words[at : at + n] for at in range(len(words) - n + 1))
    for n in range(order - 1):
        before = Counter(gram[1:] for gram in occurring[n + 1])
        # Nothing comes before the beginning: grams that start with it keep their counts.
        occurring[n] = Counter({gram: before[gram] or count for gram, count in occurring[n].items()})
    del occurring[0][(BEGIN,)]
    return occurring


def _estimate(counts: Sequence[Counter[Gram]]) -> tuple[list[dict[Gram, float]], dict[Gram, float]]:
    """Probabilities of each order, and the back-off weight of each context."""
    uniform = 1 / (len(counts[0]) + 1)  # of the words, the end and the unknown word
    probabilities: list[dict[Gram, float]] = []
    backoffs: dict[Gram, float] = {}
    for n, grams in enumerate(counts):
        ones, twos = (sum(count == times for count in grams.values()) for times in (1, 2))
        discount = ones / (ones + 2 * twos) if ones and twos else 0.5
        totals, kinds = Counter[Gram](), Counter[Gram]()
        for gram, count in grams.items():
            totals[gram[:-1]] += count
            kinds[gram[:-1]] += 1
        rest = {context: discount * kinds[context] / totals[context] for context in totals}
        lower = probabilities[n - 1] if n else {}
        own = {
            gram: (count - discount) / totals[gram[:-1]] + rest[gram[:-1]] * lower.get(gram[1:], uniform)
            for gram, count in grams.items()
        }
        if n:
            backoffs |= rest
        else:
            own |= {(UNKNOWN,): rest[()] * uniform, (BEGIN,): 1.0}
        probabilities.append(own)
    return probabilities, backoffs
