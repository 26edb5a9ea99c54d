"""`bench translation` on two recordings, with a translator that is a dictionary."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from xlsr_live.client.bench.corpus import CorpusError, read_translated
from xlsr_live.client.bench.translation import plain
from xlsr_live.client.cli import run
from xlsr_live.streaming.recognizer import Recognizer
from xlsr_live.streaming.translation.translator import Segment

from tests.support.paths import DIGITS
from tests.support.translators import LIMIT, FakeTranslator, service

pytest.importorskip("sacrebleu", reason="needs sacrebleu (the extra translate)")

SPANISH = dict(zip(["ONE", "TWO", "NINE", "FOUR", "EIGHT"], ["uno", "dos", "nueve", "cuatro", "ocho"], strict=True))


class Dictionary(FakeTranslator):
    def translate(self, segments: Sequence[Segment]) -> list[str]:
        return [" ".join(SPANISH[word] for word in segment.text.split()) for segment in segments]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recognizer]:
    with Recognizer.load(str(DIGITS), device="cpu", adaptive=False, translate_from="en") as recognizer:
        recognizer.translation = service(Dictionary(), call_timeout_s=LIMIT)
        monkeypatch.setattr("xlsr_live.client.bench.translation.load_recognizer", lambda _: recognizer)
        yield recognizer


def table(folder: Path, samples: NDArray[np.int16], *references: str) -> Path:
    soundfile.write(folder / "a.wav", samples, 16_000)
    rows = [f"a.wav\tONE TWO NINE FOUR EIGHT ONE\t{reference}\n" for reference in references]
    path = folder / "table.tsv"
    path.write_text("file\ttext\ttranslation\n" + "".join(rows), encoding="utf-8")
    return path


def test_a_perfect_translation_has_the_best_scores(
    loaded: Recognizer, clip: Callable[[str], NDArray[np.int16]], tmp_path: Path, capsys: Any
):
    data = table(tmp_path, clip("george"), "Uno, dos, nueve; cuatro, ocho: uno.")
    assert run(["bench", "translation", str(data), "--translate", "es", "--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "translation.json").read_text())
    for of in ("finals", "true_text"):
        assert report[of] == {"bleu": pytest.approx(100), "chrf": pytest.approx(100)}
    assert report["lag_s"]["count"] == 1
    assert "tok:13a" in report["signatures"][0]
    assert "100.0" in capsys.readouterr().out


def test_the_tokenizer_is_that_of_the_language_however_it_is_named(
    loaded: Recognizer, clip: Callable[[str], NDArray[np.int16]], tmp_path: Path
):
    data = table(tmp_path, clip("george"), "いち")
    loaded.translation = service(FakeTranslator(targets=("jpn",)), call_timeout_s=LIMIT)
    for name in ("Japanese", "ja"):
        arguments = ["bench", "translation", str(data), "--translate", name, "--language", "en"]
        assert run([*arguments, "--out", str(tmp_path)]) == 0
        assert "tok:char" in json.loads((tmp_path / "translation.json").read_text())["signatures"][0]


def test_a_wrong_reference_lowers_the_scores(
    loaded: Recognizer, clip: Callable[[str], NDArray[np.int16]], tmp_path: Path
):
    data = table(tmp_path, clip("george"), "Uno dos tres cuatro cinco seis")
    assert run(["bench", "translation", str(data), "--translate", "es", "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "translation.json").read_text())["finals"]["chrf"] < 70


def test_a_table_without_references_says_what_is_missing(tmp_path: Path, clip: Callable[[str], NDArray[np.int16]]):
    path = table(tmp_path, clip("george"), "x")
    path.write_text("file\ttext\na.wav\tONE\n")
    with pytest.raises(CorpusError, match="no column translation"):
        read_translated(path)


def test_case_and_punctuation_do_not_count():
    assert plain("¿Qué? ¡Sí, SEÑOR!") == "qué sí señor"
