"""Small checkpoints of translators in the published layouts, with tokenizers that the sentencepiece library trains."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch


def _pieces(folder: Path, name: str, lines: Sequence[str], size: int, **options: Any) -> Path:
    spm = pytest.importorskip("sentencepiece", reason="needs sentencepiece (the extra translate)")
    corpus = folder / f"{name}.txt"
    corpus.write_text("\n".join(lines), encoding="utf-8")
    spm.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(folder / name),
        vocab_size=size,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    corpus.unlink()
    return folder / f"{name}.model"


def marian(folder: Path, pairs: Sequence[tuple[str, str]], *, size: int = 400) -> Any:
    """The layout of `Helsinki-NLP/opus-mt-en-es`: two sentencepiece models and one vocabulary. Returns the network."""
    import sentencepiece
    from transformers import MarianConfig, MarianMTModel

    folder.mkdir(parents=True, exist_ok=True)
    special = {"bos_id": -1, "eos_id": 0, "unk_id": 1, "pad_id": -1}
    vocabulary = {"</s>": 0, "<unk>": 1}
    for side, name in enumerate(("source", "target")):
        model = _pieces(folder, name, [pair[side] for pair in pairs], size, **special)
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
        for number in range(pieces.get_piece_size()):
            vocabulary.setdefault(pieces.id_to_piece(number), len(vocabulary))
        model.rename(folder / f"{name}.spm")
        (folder / f"{name}.vocab").unlink()
    vocabulary["<pad>"] = pad = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    about = {"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "es", "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(about), encoding="utf-8")
    small = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    tokens = {"pad_token_id": pad, "eos_token_id": 0, "decoder_start_token_id": pad, "forced_eos_token_id": 0}
    torch.manual_seed(0)
    shape = {"vocab_size": pad + 1, "max_position_embeddings": 512, "dropout": 0.0, "init_std": 0.1}
    network = MarianMTModel(MarianConfig(**shape, **small, **heads, **tokens)).eval()
    network.save_pretrained(folder)
    return network


def xls_r_to_text(folder: Path, lines: Sequence[str]) -> Any:
    """The layout of `facebook/wav2vec2-xls-r-300m-en-to-15`: wav2vec 2.0 with an adapter of three layers of stride 2,
    and the decoder of mBART. Returns the network.
    """
    from transformers import (
        AutoTokenizer,
        GenerationConfig,
        MBartConfig,
        SpeechEncoderDecoderConfig,
        SpeechEncoderDecoderModel,
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
    )

    folder.mkdir(parents=True, exist_ok=True)
    shutil.move(_pieces(folder, "bpe", lines, 100), folder / "sentencepiece.bpe.model")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "MBart50Tokenizer"}', encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "mbart"}', encoding="utf-8")
    size = len(AutoTokenizer.from_pretrained(folder))
    torch.manual_seed(0)
    encoder = Wav2Vec2Config(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        conv_dim=[32] * 7,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=4,
        add_adapter=True,
        num_adapter_layers=3,
        adapter_stride=2,
        adapter_kernel_size=3,
        output_hidden_size=64,
        layerdrop=0.0,
        mask_time_prob=0.0,
    )
    decoder = MBartConfig(
        vocab_size=size,
        d_model=64,
        decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=128,
        is_decoder=True,
        add_cross_attention=True,
        scale_embedding=True,
        decoder_start_token_id=2,
        forced_eos_token_id=2,
        init_std=0.5,  # so that different audio gives different text
    )
    config = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 1, 2
    config.tie_word_embeddings = False
    network = SpeechEncoderDecoderModel(config=config).eval()
    network.generation_config = GenerationConfig(
        bos_token_id=0,
        decoder_start_token_id=2,
        eos_token_id=2,
        pad_token_id=1,
        forced_bos_token_id=size - 5,
        forced_eos_token_id=2,
        max_length=200,
        num_beams=5,
        early_stopping=True,
    )
    network.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True).save_pretrained(folder)
    return network
