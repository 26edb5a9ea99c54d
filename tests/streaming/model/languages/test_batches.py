"""Many languages of one checkpoint at once: each row of a batch as if its language were alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2ForCTC
from xlsr_live.streaming.ctc.greedy import decode
from xlsr_live.streaming.frames import span
from xlsr_live.streaming.model.encoder import XlsrEncoder
from xlsr_live.streaming.model.int8 import supported
from xlsr_live.streaming.model.readback import BEST
from xlsr_live.streaming.requests import CachedFeatures, CachedStep

from tests.support.checkpoints import tokenizer
from tests.support.graphs import GraphModel
from tests.support.languages import TOKENS, Float32, Speaker, opened, same
from tests.support.noise import noise

MIXED = ["eng", "deu", "tha", "hye", "deu", "eng"]  # six rows in four languages


@pytest.fixture(scope="module")
def batched(checkpoint: Path) -> XlsrEncoder:
    return opened(checkpoint, max_batch=8)[0]


def theirs(directory: Path, language: str, samples: Float32) -> Float32:
    """Log-probabilities by transformers alone."""
    model = Wav2Vec2ForCTC.from_pretrained(directory).eval()
    model.load_adapter(language)
    with torch.inference_mode():
        return model(torch.from_numpy(samples)[None]).logits[0].log_softmax(-1).numpy()


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
    features = [CachedFeatures(each.memory, 47) for each in speakers]
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
    assert not batched.fits_step(step("hye"), [step("deu"), step("eng")])
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
    assert languages.adapters._weights.is_floating_point()
    for language in ("eng", "deu"):
        exact, rows = single.encode([samples], None, [language]), encoder.encode([samples], None, [language])
        assert np.abs(np.exp(rows[0]) - np.exp(exact[0])).max() < 0.05


# ── graphs ──


def test_one_graph_replays_every_mixture_and_every_slot(checkpoint: Path, single: XlsrEncoder):
    encoder, languages = opened(checkpoint, max_batch=8)
    model = GraphModel(encoder._model, 8, 8, 16, languages=languages)
    captured = model.runner.graphs
    languages.adapters.slots = 4
    for turn in range(6):
        names = [("eng", "deu", "tha", "eng")[(row + turn) % 4] for row in range(4)]
        if turn == 4:
            languages.ensure("hye")  # another language moves into a slot that graphs read
            languages.ensure("cmn-script_simplified")
        audio = [noise(span(24), 10 * turn + row) for row in range(4)]
        speakers = [Speaker(samples, name, (8, 8, 16)) for samples, name in zip(audio, names, strict=True)]
        while speakers[0].left:
            for speaker, rows in zip(speakers, model.steps.encode_steps([each.next for each in speakers]), strict=True):
                speaker.take(rows)
        for row, name, speaker in zip(model.wholes.encode(audio, [None] * 4, names), names, speakers, strict=True):
            assert same([row], single.encode([speaker.samples], None, [name]), 1e-4)
            assert same(speaker.rows, Speaker(speaker.samples, name, (8, 8, 16)).run(single).rows, 1e-4)
            model.caches.release(speaker.memory.number)
    assert model.runner.replays > 10
    assert (model.runner.graphs, model.runner.misses) == (captured, 0)
