"""Many languages of one checkpoint at once: each row of a batch as if its language were alone."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2ForCTC
from xlsr_live.streaming.config import ModelOptions
from xlsr_live.streaming.ctc.assets import Assets
from xlsr_live.streaming.ctc.greedy import decode
from xlsr_live.streaming.engine.engine import Engine
from xlsr_live.streaming.errors import EngineError, ModelError
from xlsr_live.streaming.frames import span
from xlsr_live.streaming.model.adapters import languages_of
from xlsr_live.streaming.model.cache import CacheManager
from xlsr_live.streaming.model.encoder import XlsrEncoder
from xlsr_live.streaming.model.full_pass import PassEncoder
from xlsr_live.streaming.model.int8 import supported
from xlsr_live.streaming.model.languages import Languages
from xlsr_live.streaming.model.layers import XlsrLayers
from xlsr_live.streaming.model.load import load
from xlsr_live.streaming.model.readback import BEST
from xlsr_live.streaming.model.runners import GraphRunner
from xlsr_live.streaming.model.source import find_source
from xlsr_live.streaming.model.step import StepEncoder
from xlsr_live.streaming.recognizer import Recognizer
from xlsr_live.streaming.requests import CachedFeatures, CachedStep, CacheHandle, Window

from tests.support.cached_reference import noise, windows
from tests.support.checkpoints import LETTERS, NO_DELIMITER, SPECIAL, publish_multilingual, tokenizer

LARGE = (*SPECIAL, "|", *(chr(0x4E00 + index) for index in range(600)))
MIDDLE = (*SPECIAL, "|", *(chr(0x0531 + index) for index in range(150)))
TOKENS: dict[str, tuple[str, ...]] = {
    "eng": LETTERS,
    "deu": (*LETTERS, "Ä", "ß"),
    "tha": NO_DELIMITER,
    "hye": MIDDLE,
    "cmn-script_simplified": LARGE,
}
SETTING = (10, 5, 30)  # frames: hop, lookahead, left context
MIXED = ["eng", "deu", "tha", "hye", "deu", "eng"]  # six rows in four languages

Float32 = np.ndarray


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_multilingual(tmp_path_factory.mktemp("mms"), TOKENS, target=None)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def opened(directory: Path, **options: Any) -> tuple[XlsrEncoder, Languages]:
    encoder = load(ModelOptions(str(directory), device="cpu", **options))
    assert encoder.languages is not None
    return encoder, encoder.languages


@pytest.fixture(scope="module")
def single(checkpoint: Path) -> XlsrEncoder:
    return opened(checkpoint, max_batch=1)[0]


@pytest.fixture(scope="module")
def batched(checkpoint: Path) -> XlsrEncoder:
    return opened(checkpoint, max_batch=8)[0]


def theirs(directory: Path, language: str, samples: Float32) -> Float32:
    """Log-probabilities by transformers alone."""
    model = Wav2Vec2ForCTC.from_pretrained(directory).eval()
    model.load_adapter(language)
    with torch.inference_mode():
        return model(torch.from_numpy(samples)[None]).logits[0].log_softmax(-1).numpy()


class Speaker:
    """One utterance that takes its steps one by one."""

    def __init__(self, samples: Float32, language: str | None, setting: tuple[int, int, int] = SETTING) -> None:
        hop, lookahead, left = setting
        self.handle = CacheHandle(left, lookahead, language=language)
        self.samples = samples
        self.left: list[Window] = windows(len(samples), hop, lookahead, left)
        self.rows: list[Float32] = []

    @property
    def next(self) -> tuple[Float32, CachedStep]:
        return self.samples[slice(*self.left[0].new_samples)], CachedStep(self.handle, self.left[0])

    def take(self, rows: Float32) -> None:
        assert len(rows) == self.left[0].newest - self.left[0].committed
        self.rows.append(rows)
        self.left.pop(0)

    def run(self, encoder: XlsrEncoder) -> Speaker:
        while self.left:
            self.take(encoder.encode_steps([self.next])[0])
        encoder.release(self.handle.number)
        return self


def same(ours: Sequence[Float32], others: Sequence[Float32], within: float = 0.0) -> bool:
    return all(
        a.shape == b.shape and (np.array_equal(a, b) if not within else bool(np.abs(a - b).max() <= within))
        for a, b in zip(ours, others, strict=True)
    )


# ── rows ──


@pytest.mark.parametrize("language", list(TOKENS))
def test_a_language_is_what_transformers_makes_of_it(checkpoint: Path, single: XlsrEncoder, language: str):
    samples = noise(span(60))
    expected = theirs(checkpoint, language, samples)
    (rows,) = single.encode([samples], None, [language])
    assert rows.shape == expected.shape == (60, len(TOKENS[language]))
    assert np.allclose(rows, expected, atol=1e-4)
    whole = Speaker(samples, language, (60, 0, 0)).run(single)
    assert np.allclose(whole.rows[0], expected, atol=1e-4)
    words = decode(rows, single.languages.vocabulary(language) if single.languages else single.vocabulary)
    text = tokenizer(checkpoint, target_lang=language).decode(expected.argmax(1))
    separator = single.languages.vocabulary(language).separator if single.languages else " "
    assert separator.join(word.text for word in words) == separator.join(text.split())


def test_a_mixed_batch_of_passes_equals_each_language_alone(
    checkpoint: Path, single: XlsrEncoder, batched: XlsrEncoder
):
    audio = [noise(span(50 + 3 * (seed % 2)), seed) for seed in range(6)]
    for rows, samples, language in zip(batched.encode(audio, None, MIXED), audio, MIXED, strict=True):
        (alone,) = single.encode([samples], None, [language])
        assert same([rows], [alone], 1e-5)
        assert np.allclose(rows, theirs(checkpoint, language, samples), atol=1e-4)


def test_a_mixed_batch_of_steps_equals_each_language_alone(single: XlsrEncoder, batched: XlsrEncoder):
    narrow = ["eng", "deu", "tha", "deu", "eng", "tha"]
    speakers = [Speaker(noise(span(47), seed), language) for seed, language in enumerate(narrow)]
    while speakers[0].left:
        for speaker, rows in zip(speakers, batched.encode_steps([each.next for each in speakers]), strict=True):
            speaker.take(rows)
    for speaker, language in zip(speakers, narrow, strict=True):
        assert same(speaker.rows, Speaker(speaker.samples, language).run(single).rows, 1e-5)
    features = [CachedFeatures(each.handle, 47) for each in speakers]
    finals = batched.encode([each.samples for each in speakers], features, narrow)
    for rows, speaker, language in zip(finals, speakers, narrow, strict=True):
        assert same([rows], single.encode([speaker.samples], None, [language]), 1e-5)


def test_steps_share_a_batch_where_their_heads_are_alike(batched: XlsrEncoder):
    languages = batched.languages
    assert languages
    for language in TOKENS:
        languages.ensure(language)

    def step(language: str) -> CachedStep:
        return Speaker(noise(span(20)), language).next[1]

    assert batched.fits_step(step("eng"), [step("deu"), step("tha")])
    assert not batched.fits_step(step("eng"), [step("deu"), step("hye")])
    large = "cmn-script_simplified"
    assert batched.fits_step(step(large), [step(large)])
    assert not batched.fits_step(step(large), [step("eng")])
    with pytest.raises(ValueError, match="widths"):
        batched.encode_steps([Speaker(noise(span(20)), language).next for language in ("eng", large)])


def test_several_rows_of_a_large_vocabulary(single: XlsrEncoder, batched: XlsrEncoder):
    language = "cmn-script_simplified"
    audio = [noise(span(40), seed) for seed in range(3)]
    for rows, samples in zip(batched.encode(audio, None, [language] * 3), audio, strict=True):
        assert same([rows], single.encode([samples], None, [language]), 1e-5)


def test_only_the_best_tokens_come_back_as_they_would_for_a_language_alone(checkpoint: Path):
    encoder, _ = opened(checkpoint, max_batch=8)
    assert encoder._passes
    audio = [noise(span(40), seed) for seed in range(3)]
    languages = ["eng", "hye", "cmn-script_simplified"]
    whole = encoder.encode(audio, None, languages)
    encoder._passes._best = BEST
    for best, rows in zip(encoder.encode(audio, None, languages), whole, strict=True):
        assert best.shape == rows.shape
        top = np.argsort(rows, 1)[:, -BEST:]
        assert np.allclose(np.take_along_axis(best, top, 1), np.take_along_axis(rows, top, 1), atol=1e-5)
        assert np.allclose(np.exp(best).sum(1), 1, atol=1e-4)


@pytest.mark.skipif(not supported(), reason="this processor has no 8-bit products")
def test_int8_leaves_adapters_in_float(checkpoint: Path, single: XlsrEncoder):
    encoder, languages = opened(checkpoint, dtype="int8")
    samples = noise(span(50))
    assert languages.adapters._down[0].is_floating_point()
    for language in ("eng", "deu"):
        exact, rows = single.encode([samples], None, [language]), encoder.encode([samples], None, [language])
        assert np.abs(np.exp(rows[0]) - np.exp(exact[0])).max() < 0.05


# ── graphs ──


def again(program: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
    """The interface of `CudaCapture`: a replay that runs again on the same buffers."""
    answer = program()

    def replay() -> None:
        answer.copy_(program())

    return replay, answer


def test_one_graph_replays_every_mixture_and_every_slot(checkpoint: Path, single: XlsrEncoder):
    encoder, languages = opened(checkpoint, max_batch=8)
    graphs = GraphRunner(torch.device("cpu"), capture=again)
    network = XlsrLayers(encoder._model, languages)
    caches = CacheManager(network.pool, most_bytes=1 << 28)
    steps, passes = StepEncoder(network, caches, graphs), PassEncoder(network, caches, graphs)
    languages.adapters.slots = 4
    captured = 0
    for turn in range(6):
        names = [("eng", "deu", "tha", "eng")[(row + turn) % 4] for row in range(4)]
        if turn == 4:
            languages.ensure("hye")  # another language moves into a slot that graphs read
            languages.ensure("cmn-script_simplified")
        audio = [noise(span(24), 10 * turn + row) for row in range(4)]
        speakers = [Speaker(samples, name, (8, 8, 16)) for samples, name in zip(audio, names, strict=True)]
        while speakers[0].left:
            for speaker, rows in zip(speakers, steps.encode_steps([each.next for each in speakers]), strict=True):
                speaker.take(rows)
        for row, name, speaker in zip(passes.encode(audio, [None] * 4, names), names, speakers, strict=True):
            assert same([row], single.encode([speaker.samples], None, [name]), 1e-4)
            assert same(speaker.rows, Speaker(speaker.samples, name, (8, 8, 16)).run(single).rows, 1e-4)
            caches.release(speaker.handle.number)
        if turn == 3:
            captured = len(graphs._graphs)
    assert graphs.replays > 10
    assert len(graphs._graphs) == captured > 0


# ── what is in memory ──


def test_a_damaged_adapter_takes_no_other_language_with_it(copy: Path):
    (copy / "adapter.deu.safetensors").write_bytes(b"broken")
    holed = load_file(copy / "adapter.tha.safetensors")
    holed["lm_head.bias"][0] = torch.nan
    save_file(holed, copy / "adapter.tha.safetensors")
    (copy / "adapter.hye.safetensors").unlink()
    encoder, languages = opened(copy)
    assert languages.known == ("cmn-script_simplified", "deu", "eng", "tha")
    for language, why in (("deu", "damaged"), ("tha", "damaged"), ("hye", "no language"), ("xyz", "no language")):
        with pytest.raises(ModelError, match=why):
            languages.ensure(language)
    engine = Engine(encoder)
    try:
        samples = noise(span(30))
        answers = {name: engine.submit(samples, deadline=0, language=name) for name in ("eng", "deu", "tha")}
        assert answers["eng"].result(60).shape == (30, len(LETTERS))
        for name in ("deu", "tha"):
            with pytest.raises(EngineError, match="damaged"):
                answers[name].result(60)
    finally:
        engine.close()


def test_an_adapter_of_another_model_is_refused(copy: Path, tmp_path: Path):
    tensors = load_file(copy / "adapter.deu.safetensors")
    del tensors["wav2vec2.encoder.layers.1.adapter_layer.norm.bias"]
    save_file(tensors, copy / "adapter.deu.safetensors")
    _, languages = opened(copy)
    with pytest.raises(ModelError, match="another model"):
        languages.ensure("deu")


def test_an_adapter_that_cannot_be_fetched(checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    _, languages = opened(checkpoint, language="eng")

    def unreachable(*_: object) -> None:
        raise OSError("We couldn't connect to the hub")

    monkeypatch.setattr("xlsr_live.streaming.model.adapters.pickled_adapter", unreachable)
    with pytest.raises(ModelError, match="deu cannot be fetched"):
        languages.ensure("deu")
    monkeypatch.undo()
    languages.ensure("deu")


def test_languages_are_those_with_a_vocabulary_and_an_adapter(checkpoint: Path, copy: Path):
    assert languages_of(find_source(str(checkpoint))) == tuple(sorted(TOKENS))
    (copy / "adapter.deu.safetensors").unlink()
    assert "deu" not in (languages_of(find_source(str(copy))) or ())


def test_a_vocabulary_that_is_no_table_and_codes_that_are_paths(copy: Path):
    vocabulary = json.loads((copy / "vocab.json").read_text())
    (copy / "vocab.json").write_text(json.dumps(vocabulary | {"../other": {"<pad>": 0}}))
    assert languages_of(find_source(str(copy))) == tuple(sorted(TOKENS))
    (copy / "vocab.json").write_text("[1]")
    assert languages_of(find_source(str(copy))) is None
    (copy / "vocab.json").write_text("{")
    with pytest.raises(ModelError, match="damaged"):
        languages_of(find_source(str(copy)))


def test_the_language_of_load_is_the_default(checkpoint: Path):
    encoder, languages = opened(checkpoint, language="deu")
    assert (languages.default, encoder.info.language) == ("deu", "deu")
    assert encoder.vocabulary == languages.vocabulary("deu")
    samples = noise(span(30))
    assert same(encoder.encode([samples]), encoder.encode([samples], None, ["deu"]))


def test_the_default_may_be_written_in_any_way(checkpoint: Path):
    assert opened(checkpoint, language="de")[1].default == "deu"
    assert opened(checkpoint, language="zh")[1].default == "cmn-script_simplified"


def test_without_a_default_every_request_names_its_language(single: XlsrEncoder):
    assert single.info.language is None
    with pytest.raises(EngineError, match="name one"):
        single.encode([noise(span(30))])


def test_the_oldest_language_makes_room(checkpoint: Path):
    encoder, languages = opened(checkpoint)
    languages.adapters.slots = 2  # of those that there are
    before = languages.loads  # one, for the vocabulary of an encoder without default
    samples = noise(span(20))
    rows = {name: encoder.encode([samples], None, [name])[0] for name in ("eng", "deu")}
    encoder.encode([samples], None, ["eng"])
    rows["tha"] = encoder.encode([samples], None, ["tha"])[0]
    assert languages.resident == ("eng", "tha")
    assert languages.loads == before + 3
    for name in ("deu", "eng", "tha", "deu"):
        assert same([rows[name]], encoder.encode([samples], None, [name]))


def test_a_language_in_use_stays(checkpoint: Path):
    _, languages = opened(checkpoint)
    languages.adapters.slots = 2
    with languages.lease(["eng", "deu"]):
        with pytest.raises(EngineError, match="no room"):
            languages.ensure("tha")
        assert languages.resident == ("eng", "deu")
    languages.ensure("tha")
    assert languages.resident == ("deu", "tha")


def test_threads_that_want_one_language_read_it_once(checkpoint: Path):
    _, languages = opened(checkpoint)
    before = languages.loads
    threads = [threading.Thread(target=languages.ensure, args=(name,)) for name in ("eng", "deu") * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert languages.loads == before + 2


# ── what decodes them ──


def test_each_language_has_its_own_calibration_and_language_model(copy: Path, tmp_path: Path):
    curve = {"final": {"temperature": 2.0}, "partial": {}}
    own = copy / "languages" / "deu"
    (own / "language_model").mkdir(parents=True)
    (own / "calibration.json").write_text(json.dumps(curve))
    arpa = "\\data\\\nngram 1=3\n\n\\1-grams:\n-1\t<s>\n-1\t</s>\n-1\tBAD\n\n\\end\\\n"
    (own / "language_model" / "words.arpa").write_text(arpa)
    (copy / "calibration.json").write_text(json.dumps({"final": {"temperature": 3.0}, "partial": {}}))
    _, languages = opened(copy, language="eng")
    deu, eng, tha = (languages.assets(name) for name in ("deu", "eng", "tha"))
    assert deu.calibration
    assert deu.calibration.final.temperature == 2.0
    assert deu.language_model
    assert deu.language_model.words == 1
    assert eng.calibration
    assert eng.calibration.final.temperature == 3.0
    assert (eng.language_model, tha) == (None, Assets())
    assert languages.assets("deu") is deu

    folder = tmp_path / "mine"
    (folder / "eng").mkdir(parents=True)
    (folder / "eng" / "calibration.json").write_text(json.dumps({"final": {"temperature": 4.0}, "partial": {}}))
    with Recognizer.load(str(copy), device="cpu", language="tha", calibration=folder, lm="none") as recognizer:
        languages = recognizer.encoder.languages
        assert recognizer.assets.calibration  # the checkpoint's own: the folder has none for the default language
        assert recognizer.assets.calibration.final.temperature == 3.0
    assert languages
    assert languages.assets("deu").language_model is None
    calibration = languages.assets("eng").calibration
    assert calibration
    assert calibration.final.temperature == 4.0


# ── any order ──

ACTS = st.lists(
    st.tuples(st.sampled_from(["step", "pass", "switch", "ensure"]), st.integers(0, 3), st.sampled_from(list(TOKENS))),
    min_size=1,
    max_size=25,
)


@pytest.fixture(scope="module")
def crowded(checkpoint: Path) -> XlsrEncoder:
    """With room for two languages only."""
    encoder, languages = opened(checkpoint, max_batch=1)
    languages.adapters.slots = 2
    return encoder


@given(ACTS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_sessions_that_switch_languages_hear_what_each_hears_alone(
    single: XlsrEncoder, crowded: XlsrEncoder, acts: list[tuple[str, int, str]]
):
    interleave(single, crowded, acts)


@pytest.mark.slow
@given(ACTS)
@settings(max_examples=1_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_thousand_interleavings(single: XlsrEncoder, crowded: XlsrEncoder, acts: list[tuple[str, int, str]]):
    interleave(single, crowded, acts)


def interleave(single: XlsrEncoder, crowded: XlsrEncoder, acts: list[tuple[str, int, str]]) -> None:
    """Byte by byte: with one row in a batch nothing depends on the other languages."""
    speakers = [Speaker(noise(span(25), seed), name) for seed, name in enumerate(("eng", "deu", "tha", "hye"))]
    finished: list[Speaker] = []
    for act, index, language in acts:
        speaker = speakers[index]
        if act == "step" and speaker.left:
            speaker.take(crowded.encode_steps([speaker.next])[0])
        elif act == "pass":
            (rows,) = crowded.encode([speaker.samples], None, [language])
            assert same([rows], [expected(single, speaker.samples, index, language)])
        elif act == "switch":  # the next utterance of that session
            finished.append(speaker)
            crowded.release(speaker.handle.number)
            speakers[index] = Speaker(noise(span(25), index), language)
        elif crowded.languages:
            crowded.languages.ensure(language)
    for speaker in (*finished, *speakers):
        crowded.release(speaker.handle.number)
        steps = stepped(single, speaker)
        assert same(speaker.rows, steps[: len(speaker.rows)])


_KNOWN: dict[Any, Any] = {}


def expected(single: XlsrEncoder, samples: Float32, index: int, language: str) -> Float32:
    if (index, language) not in _KNOWN:
        _KNOWN[index, language] = single.encode([samples], None, [language])[0]
    return _KNOWN[index, language]


def stepped(single: XlsrEncoder, speaker: Speaker) -> list[Float32]:
    key = speaker.samples.tobytes(), speaker.handle.language
    if key not in _KNOWN:
        _KNOWN[key] = Speaker(speaker.samples, speaker.handle.language).run(single).rows
    return _KNOWN[key]
