"""Language models: where their files are found, and one clear sentence for every error in them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from math import log
from pathlib import Path

import pytest
from xlsr_live.streaming.ctc.arpa import find_fault, read_arpa
from xlsr_live.streaming.ctc.lexicon import TokenSpeller
from xlsr_live.streaming.ctc.lm import Files, LanguageModel, Weights, find, find_in_checkpoint
from xlsr_live.streaming.ctc.vocabulary import Vocabulary
from xlsr_live.streaming.errors import LanguageModelError

from tests.support.ngrams import VOCABULARY, arpa, language_model

WORDS = ["<unk>", "<s>", "</s>", "A", "B", "AB", "BAA"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "tiny.arpa").write_text(arpa())
    return tmp_path / "tiny.arpa"


def test_words_of_an_arpa_file_plain_and_packed(path: Path):
    assert read_arpa(path).words == WORDS
    packed = path.with_suffix(".arpa.gz")
    packed.write_bytes(gzip.compress(arpa().encode()))
    assert read_arpa(packed).words == WORDS
    assert find_fault(packed) is None


@pytest.mark.parametrize("blank", ["\u00a0", "\u2028", "\u3000"])
def test_blanks_of_unicode_are_part_of_a_word(blank: str, tmp_path: Path):
    """As in KenLM."""
    word = f"B{blank}A"
    path, lexicon, words = (tmp_path / name for name in ("tiny.arpa", "lexicon.txt", "unigrams.txt"))
    path.write_text(arpa().replace("BAA", word), encoding="utf-8")
    lexicon.write_text(f"{word}\tB  C A |\r\nA A |\n", encoding="utf-8")
    words.write_text(f" {word}\t\r\nA\n", encoding="utf-8")
    vocabulary = Vocabulary.from_tokens(["<pad>", "|", *"ABC", blank], blank=0)
    for files, spelling in (
        (Files(path, lexicon, None, Weights()), (3, 4, 2)),
        (Files(path, None, words, Weights()), (3, 5, 2)),
    ):
        model = LanguageModel(files, vocabulary)
        assert model.words == 2
        assert model.trie.find(spelling) == [model.ngram.numbers[word]]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("\\data\\", "data", "line 1, column 1: expected '\\\\data\\\\', not 'data'"),
        ("ngram 2=4", "ngram 3=4", "line 3, column 1: expected 'ngram 2=COUNT', not 'ngram 3=4'"),
        ("ngram 2=4", "ngram 2=5", "line 20, column 1: '\\\\end\\\\' comes too early: 1 of 5 2-grams are missing"),
        ("ngram 2=4", "ngram 2=3", "line 18, column 1: more 2-grams than the 3 of the header"),
        ("ngram 2=4", "ngram 2=4\nngram 3=0", "line 21, column 1: expected '\\\\3-grams:', not '\\\\end\\\\'"),
        ("-0.3\tA AB", "-0.3\tA ABBA", "line 16, column 8: 'ABBA' is not among the 1-grams"),
        ("-0.3\tA AB", "-0.3\tA", "line 16, column 1: a 2-gram needs a log-probability, 2 word(s)"),
        ("-0.3\tA AB", "x\tA AB", "line 16, column 1: 'x' is not a number"),
        ("-0.3\tA AB", "0.3\tA AB", "line 16, column 1: 0.3 is not a log-probability"),
        ("-0.3\tA AB", "nan\tA AB", "line 16, column 1: nan is not a log-probability"),
        ("\n\\end\\\n", "\n", "line 19: the file is cut off: it ends here, without '\\\\end\\\\'"),
    ],
)
def test_errors_of_an_arpa_file_have_line_and_column(path: Path, old: str, new: str, fault: str):
    assert old in arpa()
    path.write_text(arpa().replace(old, new))
    assert (find_fault(path) or "").startswith(fault)
    with pytest.raises(LanguageModelError, match=r"tiny\.arpa is not an ARPA file: line ") as raised:
        LanguageModel(Files(path, None, None, Weights()), VOCABULARY)
    assert fault in str(raised.value)


def test_every_file_that_is_cut_off_is_refused_in_one_sentence(path: Path, capfd: pytest.CaptureFixture[str]):
    for end in range(0, len(arpa()) - 2, 7):
        path.write_text(arpa()[:end])
        with pytest.raises(LanguageModelError) as raised:
            LanguageModel(Files(path, None, None, Weights()), VOCABULARY)
        assert "\n" not in str(raised.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is not an ARPA file: line 0: the file is cut off"),
        (b"\xff\xfe\x00\x80" * 30, "neither an ARPA file in UTF-8 nor a KenLM binary"),
        (b"mmap lm http", "cut off: 12 bytes are not even the header"),
        (b"mmap lm http://kheafield.com/code format version 5\n\0".ljust(200, b"\1"), "of another version or kind"),
        (b"mmap lm http://kheafield.com/code format version 4\n\0".ljust(200, b"\1"), "of another version or kind"),
        (b"PK\3\4 something else\n" * 9, "is not an ARPA file: line 1, column 1"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, content: bytes, why: str):
    file = tmp_path / "lm.bin"
    file.write_bytes(content)
    with pytest.raises(LanguageModelError, match=why):
        LanguageModel(find(file), VOCABULARY)


def test_a_language_model_is_found_in_a_folder(path: Path):
    folder = path.parent
    assert find(folder) == Files(path, None, None, Weights())
    (folder / "tiny.binary").write_bytes(b"")  # prefer the binary of the same model, which loads faster
    (folder / "unigrams.txt").write_text("A\nB\n")
    (folder / "attrs.json").write_text(json.dumps({"alpha": 0.5, "beta": 1.25, "unk_score_offset": -10.0}))
    found = find(folder)
    assert (found.ngram.name, found.words, found.lexicon) == ("tiny.binary", folder / "unigrams.txt", None)
    assert (found.weights.lm, found.weights.word) == (pytest.approx(0.5 * log(10)), 1.25)
    (folder / "other.bin").write_bytes(b"")
    with pytest.raises(LanguageModelError, match=r"several language models: name one of other\.bin, tiny\.binary"):
        find(folder)


def test_a_checkpoints_own_language_model_is_found(tmp_path: Path):
    assert find_in_checkpoint(tmp_path) is None
    (inside := tmp_path / "language_model").mkdir()
    with pytest.raises(LanguageModelError, match="has no language model"):
        find_in_checkpoint(tmp_path)
    (inside / "5gram.arpa").write_text(arpa())
    assert find_in_checkpoint(tmp_path) == Files(inside / "5gram.arpa", None, None, Weights())
    (inside / "attrs.json").write_text("{}")
    with pytest.raises(LanguageModelError, match=r"attrs.json does not have the weights alpha and beta"):
        find_in_checkpoint(tmp_path)
    with pytest.raises(LanguageModelError, match="no such file or folder"):
        find(tmp_path / "nowhere")


def test_words_are_spelled_in_the_case_of_the_model(path: Path):
    model = LanguageModel(find(path), Vocabulary.from_tokens(["<pad>", "|", *"abc"], blank=0))
    assert (model.words, model.lacks((2, 3)), model.lacks((4,))) == (4, False, True)


def lexicon(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "lexicon.txt").write_text(text)


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (lexicon("A A |\nAB A b |\n"), "lexicon.txt, line 2, column 6: 'b' is no token of the model; it has 'B'"),
        (lexicon("A A |\nB\n"), "lexicon.txt, line 2, column 1: no tokens follow 'B'"),
        (lexicon("A | A\n"), "lexicon.txt, line 1, column 3: '|' is no token of the model"),
        (lexicon("\n \n"), "lexicon.txt has no words"),
        (lexicon("a A |\nab A B |\n"), "none of the 2 words of the lexicon is in the n-gram"),
        (lambda f: (f / "unigrams.txt").write_text("Ä\nÖ\nA\n"), "it can spell 1 of 3, not 'Ä'"),
        (lambda f: (f / "lexicon.txt").write_bytes(b"\xff\xfe"), "lexicon.txt cannot be read"),
    ],
)
def test_a_lexicon_that_does_not_fit_is_refused(path: Path, prepare: Callable[[Path], object], why: str):
    prepare(path.parent)
    with pytest.raises(LanguageModelError) as raised:
        LanguageModel(find(path), VOCABULARY)
    assert why in str(raised.value)


def test_a_lexicon_may_have_several_spellings_of_a_word(path: Path):
    (path.parent / "lexicon.txt").write_text("A A |\nA B A |\nAB A B\n")
    model = LanguageModel(find(path), VOCABULARY)
    assert (model.words, model.lacks((3, 2)), model.lacks((2, 3)), model.lacks((3,))) == (2, False, False, True)


def test_a_vocabulary_without_word_boundaries_is_refused():
    with pytest.raises(LanguageModelError, match="no word boundary"):
        TokenSpeller(Vocabulary.from_tokens(["<pad>", "你", "好"], blank=0, delimiter=None))


@pytest.mark.parametrize(
    "wrong", [{"lm": -1}, {"beam": 0}, {"threshold": 0}, {"word": float("nan")}, {"sure_blank": 0}]
)
def test_weights_out_of_range_are_refused(wrong: dict[str, float]):
    with pytest.raises(LanguageModelError):
        Weights(**wrong)


def test_searches_share_no_new_words(tmp_path: Path):
    model = language_model(tmp_path, Weights())
    word = model.spell("ABC")
    assert word
    model.search().extend(model.unknown_words([word]))
    assert model.lacks(word)
