"""The adapters of a multilingual checkpoint such as MMS (arXiv 2305.13516): which there are, and their tensors.

A file `adapter.LANGUAGE.safetensors` holds a small module for each layer and the head of that language, whose outputs
are the dictionary of that language in `vocab.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch
from torch import Tensor

from ..errors import ModelError
from .pickled import find_file, pickled_adapter
from .source import Source

_CODE: Final = re.compile(r"[\w-]+")  # no path: it is a part of file names
_SUFFIXES: Final = (".safetensors", ".bin")
_PARTS: Final = ("norm.weight", "norm.bias", "linear_1.weight", "linear_1.bias", "linear_2.weight", "linear_2.bias")


class Adapter(NamedTuple):
    """One language's tensors; the first dimension of the layers' is the layer."""

    norm: tuple[Tensor, Tensor]  # weight and bias, (layers, hidden)
    down: tuple[Tensor, Tensor]  # (layers, width, hidden) and (layers, width)
    up: tuple[Tensor, Tensor]  # (layers, hidden, width) and (layers, hidden)
    head: tuple[Tensor, Tensor]  # (tokens, hidden) and (tokens,)


class AdapterShape(NamedTuple):
    layers: int
    hidden: int
    width: int  # of the bottleneck


def languages_of(source: Source) -> tuple[str, ...] | None:
    """The languages of a checkpoint, sorted: those of its vocabulary that have an adapter. None without adapters.

    Reads no weights. Raises `ModelError`.
    """
    try:
        file = find_file(source, "vocab.json")
    except OSError as error:
        raise ModelError(f"{source.name}: vocab.json cannot be fetched; try again later") from error
    try:
        tokens: Any = json.loads(file.read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{source.name}: vocab.json is damaged") from error
    read = cast(Mapping[str, Any], tokens).items() if isinstance(tokens, dict) else ()
    nested = [code for code, own in read if isinstance(own, dict) and _CODE.fullmatch(code)]
    if not nested:
        return None
    names = _file_names(source)
    if names is not None:
        nested = [code for code in nested if any(f"adapter.{code}{suffix}" in names for suffix in _SUFFIXES)]
    return tuple(sorted(nested)) or None


def _file_names(source: Source) -> set[str] | None:
    """Files of the checkpoint: those on disk, or those of the repository where it can be asked; else None."""
    if not source.options:
        return {file.name for file in Path(source.path).iterdir()}
    if source.options.get("local_files_only"):
        weights = find_file(source, "config.json")
        return {file.name for file in weights.parent.iterdir()} if weights else set()
    import huggingface_hub

    try:
        found = cast(Any, huggingface_hub).list_repo_files(source.path, revision=source.options.get("revision"))
    except Exception:  # also those of the hub's HTTP library, which have no public base
        return None
    return set(found)


def read_adapter(source: Source, language: str, shape: AdapterShape) -> Adapter:
    """Raises `ModelError` if the file is missing, damaged, or of another model; this harms no other language."""
    name = f"adapter.{language}.safetensors"
    file, pickled = _cached(source, name), None
    try:
        if file is None:
            pickled = pickled_adapter(source, language)
            file = None if pickled is not None else find_file(source, name)
    except OSError as error:
        raise ModelError(f"{source.name}: the adapter of {language} cannot be fetched; try again later") from error
    if pickled is None and file is None:
        raise ModelError(f"{source.name} has no adapter for {language}")
    try:
        found: dict[str, Tensor] = pickled or cast(Any, safetensors_torch).load_file(file)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{source.name}: the adapter of {language} is damaged") from error
    return _arranged(source.name, language, found, shape)


def _cached(source: Source, name: str) -> Path | None:
    """A file of a hub checkpoint, if it lies in the cache: a language that loads again does not wait for the hub."""
    if not source.options:
        return None
    import huggingface_hub

    found = cast(Any, huggingface_hub).try_to_load_from_cache(
        source.path, name, revision=source.options.get("revision")
    )
    return Path(found) if isinstance(found, str) else None


def _arranged(name: str, language: str, found: Mapping[str, Tensor], shape: AdapterShape) -> Adapter:
    layers, hidden, width = shape
    layer = {
        "norm.weight": (hidden,), "norm.bias": (hidden,), "linear_1.weight": (width, hidden), "linear_1.bias": (width,),
        "linear_2.weight": (hidden, width), "linear_2.bias": (hidden,),
    }  # fmt: skip
    keys = {part: [_key(found, index, part) for index in range(layers)] for part in _PARTS}
    heads = ("lm_head.weight", "lm_head.bias")
    expected = {key for part in keys.values() for key in part} | set(heads)
    tokens = len(found["lm_head.bias"]) if "lm_head.bias" in found else 0
    shapes = {key: layer[part] for part, each in keys.items() for key in each} | {
        "lm_head.weight": (tokens, hidden), "lm_head.bias": (tokens,)
    }  # fmt: skip
    if expected != set(found) or any(tuple(found[key].shape) != shapes[key] for key in expected):
        raise ModelError(f"{name}: the adapter of {language} is of another model")
    if not all(bool(tensor.isfinite().all()) for tensor in found.values()):
        raise ModelError(f"{name}: the adapter of {language} is damaged: it holds numbers that are not finite")
    stacked = [torch.stack([found[key] for key in keys[part]]) for part in _PARTS]
    return Adapter(
        (stacked[0], stacked[1]), (stacked[2], stacked[3]), (stacked[4], stacked[5]), (found[heads[0]], found[heads[1]])
    )


def _key(found: Mapping[str, Tensor], index: int, part: str) -> str:
    key = f"encoder.layers.{index}.adapter_layer.{part}"
    return next((prefix + key for prefix in ("wav2vec2.", "hubert.") if prefix + key in found), f"wav2vec2.{key}")
