"""The language model: a pruned word n-gram as a quantised KenLM binary, and the lexicon of its words.

KenLM's programs come from its source distribution, built with cmake (Debian: libboost-program-options-dev
libboost-system-dev libboost-thread-dev libboost-test-dev zlib1g-dev). The recognizer does not need them.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

from .books import dialogue, sentences
from .prepare import read_table
from .settings import Work

KENLM = "kenlm==0.3.0"
PROGRAMS = ("lmplz", "build_binary")
MAX_BYTES = 25_000_000  # n-gram and lexicon together
# The counts of all texts are added. Dialogue repeats itself, so a part of it is enough and costs books less.
DIALOGUE_SHARE = 0.4
RECORDED_WEIGHT = 5  # sentences recorded for training: commands, digits and spelled words are rare in the texts


def build(work: Work, order: int, prune: tuple[int, ...], words: int) -> dict[str, int]:
    """Write WORK/lm/words.binary and WORK/lm/lexicon.txt; return their sizes.

    `prune` are KenLM's thresholds by order: n-grams seen at most that often are dropped. The lexicon holds the `words`
    most frequent words of books and dialogue, and every word of the training transcripts.
    """
    programs = work.root / "kenlm" / "build" / "bin"
    if not all((programs / name).exists() for name in PROGRAMS):
        build_kenlm(work.root / "kenlm")
    folder = work.root / "lm"
    folder.mkdir(parents=True, exist_ok=True)
    books, spoken, recorded = sentences(work.speech), dialogue(work.speech), transcripts(work)
    counts = Counter(word for line in books + spoken for word in line.split())
    written = books + thinned(spoken, books)
    kept = {word for word, _ in counts.most_common(words)} | {word for line in recorded for word in line.split()}
    (folder / "text.txt").write_text("\n".join(written + recorded * RECORDED_WEIGHT) + "\n", encoding="utf-8")
    (folder / "vocabulary.txt").write_text("\n".join(sorted(kept)) + "\n", encoding="utf-8")
    thresholds = [str(n) for n in prune]
    lmplz = [programs / "lmplz", "-o", str(order), "--prune", *thresholds, "-S", "1G", "-T", folder]
    lmplz += ["--limit_vocab_file", folder / "vocabulary.txt", "--discount_fallback"]
    lmplz += ["--text", folder / "text.txt", "--arpa", folder / "words.arpa"]
    subprocess.run(lmplz, check=True)
    quantised = ["-a", "255", "-q", "8", "-b", "8", "trie", folder / "words.arpa", folder / "words.binary"]
    subprocess.run([programs / "build_binary", *quantised], check=True)
    # One spelling per word, in the form of flashlight's lexicon: letters, then the word delimiter.
    lexicon = [f"{word}\t{' '.join(word)} |" for word in sorted(kept)]
    (folder / "lexicon.txt").write_text("\n".join(lexicon) + "\n", encoding="utf-8")
    sizes = {name: (folder / name).stat().st_size for name in ("words.binary", "lexicon.txt")}
    if sum(sizes.values()) > MAX_BYTES:
        raise ValueError(f"{sizes}: more than {MAX_BYTES} bytes, prune more")
    return sizes | {"words": len(kept)}


def thinned(lines: list[str], others: list[str]) -> list[str]:
    """`DIALOGUE_SHARE` of the lines, evenly spread, and those with a word that nothing before them has."""
    seen, chosen = {word for line in others for word in line.split()}, []
    for number, line in enumerate(lines):
        words = line.split()
        if int((number + 1) * DIALOGUE_SHARE) > int(number * DIALOGUE_SHARE) or not seen.issuperset(words):
            chosen.append(line)
            seen.update(words)
    return chosen


def transcripts(work: Work) -> list[str]:
    """Transcripts of the training split: they hold the words and phrases that the texts lack."""
    rows = read_table(work.audio / "real.tsv")
    own = [row for row in rows if row["corpus"] != "kokoro"]  # which reads the books
    return [row["text"] for row in own if row["split"] == "train" and row["text"]]


def build_kenlm(folder: Path) -> None:
    """Fetch KenLM's source with pip and build its two programs into folder/build/bin."""
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", KENLM, "--no-deps", "--no-binary", "kenlm", "--dest", folder]
    subprocess.run(pip, check=True)
    with tarfile.open(next(folder.glob("kenlm-*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    source = next(path for path in folder.glob("kenlm-*") if path.is_dir())
    subprocess.run(["cmake", "-S", source, "-B", folder / "build", "-DCMAKE_BUILD_TYPE=Release"], check=True)
    subprocess.run(["cmake", "--build", folder / "build", "--target", *PROGRAMS, "-j", "2"], check=True)
