"""Random checkpoints in the layouts of HuBERT and Omnilingual ASR, as transformers itself writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import HubertConfig, HubertForCTC, OmniASRAudioConfig, OmniASRCTCConfig, OmniASRForCTC
from transformers.models.parakeet.tokenization_parakeet import ParakeetTokenizer

from .checkpoints import LETTERS, SMALL, config, publish

OMNIASR_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
PIECES = (*OMNIASR_SPECIAL, " ", *"abcdefgh", " th", "ing", "你", "ß", " a")

_NOT_OMNIASR = ("feat_extract_norm", "do_stable_layer_norm")


def publish_hubert(directory: Path, size: Mapping[str, Any] = SMALL, **options: Any) -> Path:
    """A `HubertForCTC` beside the extractor and the tokenizer of a wav2vec 2.0."""
    publish(directory, size)
    model = HubertForCTC(HubertConfig(**config(size, len(LETTERS)).to_dict() | {"model_type": "hubert"} | options))
    _lively(model, model.lm_head)
    model.save_pretrained(directory)
    return directory


def omniasr(size: Mapping[str, Any] = SMALL, vocabulary: int = len(PIECES)) -> OmniASRForCTC:
    torch.manual_seed(0)
    audio = OmniASRAudioConfig(**{name: value for name, value in size.items() if name not in _NOT_OMNIASR})
    model = OmniASRForCTC(OmniASRCTCConfig(vocab_size=vocabulary, audio_config=audio)).eval()
    _lively(model, model.ctc_head)
    return model


def publish_omniasr(
    directory: Path, size: Mapping[str, Any] = SMALL, pieces: Sequence[str] = PIECES, *, one_file: bool = True
) -> Path:
    """A whole `OmniASRForCTC`; without `one_file` its weights are in shards and its extractor in a file of its own."""
    model = omniasr(size, len(pieces))
    model.save_pretrained(directory, max_shard_size="50GB" if one_file else "20KB")
    extractor = transformers.OmniASRFeatureExtractor()
    tokenizer = pieces_tokenizer(pieces)
    if one_file:
        transformers.OmniASRCTCProcessor(extractor, tokenizer).save_pretrained(directory)
    else:
        extractor.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    return directory


def pieces_tokenizer(pieces: Sequence[str]) -> ParakeetTokenizer:
    """As transformers converts the tokenizer of Omnilingual ASR: pieces carry the blank space before them."""
    backend = Tokenizer(models.Unigram([(piece, -float(index)) for index, piece in enumerate(pieces)], unk_id=3))
    backend.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")])
    backend.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_next")
    backend.decoder = decoders.Fuse()
    return ParakeetTokenizer(
        tokenizer_object=backend, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def converted(directory: Path, source: Path) -> Path:
    """The same weights by the names of wav2vec 2.0, with a baked or a split positional convolution: community copies
    of Omnilingual ASR look like this, and keep its tokens' order."""
    from xlsr_live.streaming.model.layouts import find_layout
    from xlsr_live.streaming.model.source import find_source

    layout = find_layout(find_source(str(source)))
    model = transformers.Wav2Vec2ForCTC(layout.config)
    weights: dict[str, Any] = {}
    for file in source.glob("*.safetensors"):
        weights |= load_file(file)
    renamed = {
        new + key[len(old) :]: tensor
        for key, tensor in weights.items()
        for old, new in layout.renamed.items()
        if key.startswith(old + ".")
    }
    conv = model.wav2vec2.encoder.pos_conv_embed.conv
    with torch.no_grad():
        conv.weight = renamed.pop("wav2vec2.encoder.pos_conv_embed.conv.weight")  # split by the parametrization
    model.load_state_dict(renamed, strict=False)
    model.save_pretrained(directory)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(directory)
    return directory


def _lively(model: Any, head: Any) -> None:
    """Make frames differ in their best token, and never let a special one win."""
    with torch.no_grad():
        head.weight.normal_(std=0.2)
        head.bias.zero_()
        head.bias[1:4] = -50
