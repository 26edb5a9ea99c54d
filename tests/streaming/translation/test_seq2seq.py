"""Text to text with a small Marian network that the library trains here in seconds: from speech events to Spanish."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import torch
from xlsr_live.streaming.errors import ConfigError, ModelError
from xlsr_live.streaming.overload import Level
from xlsr_live.streaming.protocol.events import Translation
from xlsr_live.streaming.translation.load import load_translators
from xlsr_live.streaming.translation.seq2seq import TextTranslator
from xlsr_live.streaming.translation.session import SessionTranslator
from xlsr_live.streaming.translation.translator import Segment

from tests.support.translation_checkpoints import marian
from tests.support.translators import LIMIT, final, service

NOUNS = {"house": "casa", "table": "mesa", "door": "puerta", "chair": "silla", "lamp": "lámpara", "boat": "barca"}
ADJECTIVES = {"red": "roja", "black": "negra", "white": "blanca", "small": "pequeña", "new": "nueva", "old": "vieja"}
PLACES = {"here": "aquí", "there": "allí", "far away": "lejos", "at home": "en casa"}
PAIRS = [
    (f"The {adjective} {noun} is {place}.", f"La {NOUNS[noun]} {ADJECTIVES[adjective]} está {PLACES[place]}.")
    for noun, adjective, place in product(NOUNS, ADJECTIVES, PLACES)
]
HELD_OUT = PAIRS[::13]  # never trained on: word order and agreement must be learned


def train(network: Any, tokenizer: Any, pairs: list[tuple[str, str]], steps: int) -> None:
    torch.manual_seed(0)
    sources = tokenizer([source for source, _ in pairs], return_tensors="pt", padding=True)
    labels = tokenizer(text_target=[target for _, target in pairs], return_tensors="pt", padding=True).input_ids
    labels[labels == tokenizer.pad_token_id] = -100
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    network.train()
    for _ in range(steps):
        chosen = torch.randint(len(pairs), (32,))
        loss = network(
            input_ids=sources.input_ids[chosen], attention_mask=sources.attention_mask[chosen], labels=labels[chosen]
        ).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    network.eval()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("marian")
    network = marian(folder, PAIRS)
    train(network, AutoTokenizer.from_pretrained(folder), [pair for pair in PAIRS if pair not in HELD_OUT], 200)
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def translator(checkpoint: Path) -> TextTranslator:
    (found,) = load_translators([str(checkpoint)])
    assert isinstance(found, TextTranslator)
    return found


def segment(text: str) -> Segment:
    return Segment(text, None, "en", "es")


def test_the_layout_loads_without_missing_or_unexpected_weights(checkpoint: Path):
    from transformers import AutoModelForSeq2SeqLM

    _, report = AutoModelForSeq2SeqLM.from_pretrained(checkpoint, use_safetensors=True, output_loading_info=True)
    assert (report["missing_keys"], report["unexpected_keys"]) == (set(), set())


def test_the_pair_is_that_of_the_tokenizer(translator: TextTranslator):
    assert (translator.sources(), translator.targets("en")) == (("en",), ("es",))


@pytest.mark.parametrize("beams", [1, 4])
def test_sentences_that_it_never_saw_are_spanish(
    translator: TextTranslator, monkeypatch: pytest.MonkeyPatch, beams: int
):
    monkeypatch.setattr(translator, "_beams", beams)
    texts = translator.translate([segment(source.upper().rstrip(".")) for source, _ in HELD_OUT])
    right = sum(text == target.rstrip(".") for text, (_, target) in zip(texts, HELD_OUT, strict=True))
    assert right >= 0.9 * len(HELD_OUT), texts


def test_a_row_of_a_batch_is_what_it_is_alone(translator: TextTranslator):
    segments = [
        segment(text) for text in ("THE RED HOUSE IS HERE", "THE LAMP", "THE OLD BOAT IS FAR AWAY", "HERE HERE HERE")
    ]
    assert translator.translate(segments) == [text for each in segments for text in translator.translate([each])]


def test_finals_of_a_session_are_translated(checkpoint: Path):
    translation = service(*load_translators([str(checkpoint)]), call_timeout_s=LIMIT)
    calls: SimpleQueue[Any] = SimpleQueue()
    adds = SessionTranslator(translation, ["Spanish"], "English", complete=True, hand_over=calls.put)
    said = [final(0, "THE RED HOUSE IS HERE"), final(1, "THE SMALL BOAT IS THERE")]
    events = adds.receive_events(said, Level.NORMAL)
    while adds.pending:
        calls.get(timeout=LIMIT)()
        events += adds.receive_events([], Level.NORMAL)
    assert [event.text for event in events if isinstance(event, Translation)] == [
        "La casa roja está aquí",
        "La barca pequeña está allí",
    ]
    translation.close()


def test_targets_can_be_restricted(checkpoint: Path):
    (restricted,) = load_translators([f"{checkpoint}=Spanish"])
    assert restricted.targets("en") == ("es",)
    with pytest.raises(ConfigError, match="'fr'"):
        load_translators([f"{checkpoint}=fr"])


def test_what_is_no_translator_is_refused_by_its_kind(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelError, match="does not translate"):
        load_translators([str(tmp_path)])
    with pytest.raises(ModelError, match="no such directory"):
        load_translators([str(tmp_path / "missing")])
