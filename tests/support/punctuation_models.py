"""Tiny models in the published layout of those that restore punctuation: each prediction depends on one piece."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import sentencepiece
from onnx import TensorProto, helper, numpy_helper

PRE, POST = ["<NULL>", "¿"], ["<NULL>", "<ACRONYM>", ".", ",", "?"]
LONGEST = 16  # characters of a piece


def publish(
    folder: Path,
    words: Mapping[str, tuple[str, str, str]],
    *,
    max_length: int = 12,
    graph: str = "punct_cap_seg_en.onnx",
    pieces: str = "spe_32k_lc_en.model",
) -> Path:
    """A model that writes each of the words, in small letters, as (before, in its case, after)."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*words] * 20),
        model_writer=written,
        model_type="word",
        vocab_size=len(words) + 3,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / pieces).write_bytes(written.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    size = processor.get_piece_size()
    before, after, ends = (np.zeros(size, np.int64) for _ in range(3))
    capitals = np.zeros((size, LONGEST), bool)
    for word, (prefix, cased, suffix) in words.items():
        index = processor.piece_to_id("▁" + word)
        before[index], after[index] = PRE.index(prefix or "<NULL>"), POST.index(suffix or "<NULL>")
        capitals[index, 1 : len(word) + 1] = [char.isupper() for char in cased]
    tables = {"pre": before, "post": after, "cap": capitals, "seg": ends}
    onnx.save(
        helper.make_model(
            helper.make_graph(
                [helper.make_node("Gather", [f"{name}_table", "input_ids"], [name]) for name in tables],
                "pieces",
                [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "time"])],
                [
                    helper.make_tensor_value_info(
                        name,
                        helper.np_dtype_to_tensor_dtype(table.dtype),
                        ["batch", "time", *map(str, table.shape[1:])],
                    )
                    for name, table in tables.items()
                ],
                [numpy_helper.from_array(table, f"{name}_table") for name, table in tables.items()],
            ),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=9,
        ),
        folder / graph,
    )
    labels = {"pre_labels": PRE, "post_labels": POST, "null_token": "<NULL>", "languages": ["en"]}
    (folder / "config.yaml").write_text(json.dumps({"max_length": max_length, **labels}))  # JSON is YAML
    return folder
